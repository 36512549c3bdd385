"""What a service is started with: one TOML file, `line.toml`, whose tables are those of a configuration and a few more.

The tables `[model]`, `[vocabulary]`, `[input]` and so on are those of `blemish.Config`: what inspects where a request names no
profile. The tables below are the service's own. Relative paths are meant from the file's folder.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from blemish.config import Config
from blemish.errors import UnknownNameError, UsageError
from blemish.io.atomic import reason
from blemish.io.codec import from_dict

__all__ = [
    "LOOPBACK",
    "LabelStudioConfig",
    "LineConfig",
    "ModbusConfig",
    "MqttConfig",
    "OpcUaConfig",
    "RetentionConfig",
    "RootConfig",
    "ServiceConfig",
    "SourceConfig",
    "WebhookConfig",
    "is_loopback",
]

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """`[serve]`: where the service listens, what it keeps where, and how much it takes on."""

    host: str = "127.0.0.1"
    port: int = 8765
    data: str = "blemish-data"  # folder of images, maps and the database
    database: str | None = None  # SQLAlchemy's URL; None: SQLite in the data folder
    allowed_hosts: tuple[str, ...] = ()  # names that browsers may call the service by, besides its own addresses
    secure_cookies: bool = False  # the page comes by HTTPS, from a proxy before the service
    workers: int = 0  # processes with a model, one thread each; 0: one a core, up to 4
    queue: int = 64  # images that may wait for the model
    batch_size: int = 8  # images that the model gets at once
    wait_ms: float = 20.0  # how long a batch waits for more images
    image_limit_s: float = 60.0  # how long a worker may take for one image before it is replaced
    request_limit_s: float = 30.0  # how long a request waits for its result
    upload_mb: float = 64.0  # bytes of a request's body, in megabytes
    images_a_request: int = 32
    requests_a_minute: int = 6000  # of one token, or of one address without one
    shifts: tuple[str, ...] = ("06:00", "14:00", "22:00")  # when shifts begin; images are counted by whole hours
    time_zone: str = "UTC"  # of the shifts; records are in UTC

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise UsageError(f"[serve].port must be in 0..65535, not {self.port}")
        for name in ("queue", "batch_size", "images_a_request", "requests_a_minute"):
            if getattr(self, name) < 1:
                raise UsageError(f"[serve].{name} must be at least 1, not {getattr(self, name)}")
        for name in ("image_limit_s", "request_limit_s", "upload_mb"):
            if not getattr(self, name) > 0:
                raise UsageError(f"[serve].{name} must be above 0, not {getattr(self, name):g}")
        for name in ("workers", "wait_ms"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"[serve].{name} must be 0 or more, not {getattr(self, name):g}")
        if not self.shifts:
            raise UsageError('[serve].shifts needs at least one time, as ["06:00", "14:00", "22:00"]')
        for time in self.shifts:
            hour, _, minute = time.partition(":")
            is_clock = hour.isdecimal() and minute.isdecimal() and (len(hour), len(minute)) == (2, 2)
            if not (is_clock and int(hour) < 24 and int(minute) < 60):
                raise UsageError(f"[serve].shifts are times such as 06:00, not {time!r}")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(f"[serve].time_zone {self.time_zone!r} is no time zone, as Europe/Berlin is") from error


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    """`[retention]`: how long image files are kept. Records stay. NG images and reviewed ones go by age only."""

    ok_days: float | None = 30.0  # OK images, as they are
    max_days: float | None = None  # all images
    max_gb: float | None = None  # of all files; the oldest OK images go first, then unreviewed REVIEW images
    min_free_mb: float = 500.0  # of the disk; below it nothing is accepted

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not value >= 0:
                raise UsageError(f"[retention].{limit.name} must be 0 or more, not {value:g}")


@dataclass(frozen=True, kw_only=True)
class RootConfig:
    """`[[folders]]`: a folder whose images jobs may name."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """`[[sources]]`: something that images come from by themselves."""

    name: str
    kind: Literal["folder", "camera", "simulated"]
    path: str | None = None  # of a folder; of a camera, a video file or a device, as /dev/video0
    url: str | None = None  # of a camera, as rtsp://…
    trigger: Literal["interval", "http", "mqtt", "arrival"] | None = None  # None: arrival for folders, else interval
    interval_s: float = 1.0
    topic: str | None = None  # of the MQTT trigger; None: PREFIX/trigger/NAME
    profile: str | None = None
    settle_s: float = 1.0  # a file is taken when it has not changed for so long
    retry_s: float = 1.0  # first pause before a camera is opened again; doubles up to retry_most_s
    retry_most_s: float = 30.0
    freeze_s: float = 10.0  # a camera without a new frame for so long is opened again
    options: Mapping[str, str] = field(default_factory=dict)  # of the decoder (FFmpeg)

    def __post_init__(self) -> None:
        where = f"the source {self.name!r}"
        if not self.name or not all(letter.isalnum() or letter in "-_. " for letter in self.name):
            raise UsageError(f"{where}: a name has letters, digits, '-', '_', '.' and spaces")
        if self.kind == "folder" and self.path is None:
            raise UsageError(f"{where} is a folder and needs its path")
        if self.kind == "camera" and (self.path is None) == (self.url is None):
            raise UsageError(f"{where} is a camera and needs its url, or a path")
        if self.kind == "folder" and self.trigger not in (None, "arrival"):
            raise UsageError(f"{where}: the images of a folder are taken as they arrive, not by {self.trigger}")
        if self.kind != "folder" and self.trigger == "arrival":
            raise UsageError(f"{where}: the images of a camera are taken by interval, http or mqtt, not by arrival")
        for name in ("interval_s", "retry_s", "retry_most_s", "freeze_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{where}: {name} must be above 0")


@dataclass(frozen=True, kw_only=True)
class MqttConfig:
    """`[mqtt]`: the broker that results are published to."""

    host: str
    port: int = 1883
    prefix: str = "blemish"
    client_id: str | None = None
    username: str | None = None
    password_file: str | None = None  # a file with nothing else in it
    tls: bool = False
    tls_ca: str | None = None  # certificates to trust; None: those of the system
    watchdog_s: float = 5.0  # how often PREFIX/watchdog counts on


@dataclass(frozen=True, kw_only=True)
class WebhookConfig:
    """`[[webhooks]]`: an address that results are sent to."""

    name: str
    url: str
    secret_file: str  # a file with the key of the signatures
    verdicts: tuple[str, ...] = ("review", "ng")
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"the webhook {self.name!r} needs an address that begins with http:// or https://")
        for verdict in self.verdicts:
            if verdict not in ("ok", "review", "ng"):
                raise UnknownNameError(f"verdict of the webhook {self.name!r}", verdict, ("ok", "review", "ng"))


@dataclass(frozen=True, kw_only=True)
class LabelStudioConfig:
    """`[label_studio]`: the Label Studio whose images its backend opens."""

    url: str  # as http://localhost:8080
    token_file: str | None = None  # a file with an access token of Label Studio

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UsageError("[label_studio].url begins with http:// or https://")

    @property
    def token(self) -> str | None:
        """The token in the file; UsageError where it cannot be read."""
        if self.token_file is None:
            return None
        try:
            return Path(self.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(
                f"{self.token_file}: the token of Label Studio cannot be read ({reason(error)})"
            ) from error


@dataclass(frozen=True, kw_only=True)
class ModbusConfig:
    """`[modbus]`: a Modbus TCP server with the newest result of each source."""

    sources: tuple[str, ...]  # in the order of their registers
    host: str = "127.0.0.1"
    port: int = 5020


@dataclass(frozen=True, kw_only=True)
class OpcUaConfig:
    """`[opcua]`: an OPC UA server with the newest result of each source."""

    sources: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 4840


@dataclass(frozen=True, kw_only=True)
class LineConfig:
    """All that a service is started with.

    Example:
        >>> LineConfig.from_dict({"serve": {"port": 9000}, "vocabulary": {"defects": "scratch"}}).serve.port
        9000
    """

    inspect: Config = field(default_factory=Config)  # of the profile "default"
    serve: ServiceConfig = field(default_factory=ServiceConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    folders: tuple[RootConfig, ...] = ()
    sources: tuple[SourceConfig, ...] = ()
    mqtt: MqttConfig | None = None
    webhooks: tuple[WebhookConfig, ...] = ()
    label_studio: LabelStudioConfig | None = None
    modbus: ModbusConfig | None = None
    opcua: OpcUaConfig | None = None
    profiles: Mapping[str, Config] = field(default_factory=dict)  # more of them, by name

    def __post_init__(self) -> None:
        for what, named in (("source", self.sources), ("folder", self.folders), ("webhook", self.webhooks)):
            names = [each.name for each in named]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise UsageError(f"two of the {what}s have the name {twice!r}")
        for source in self.sources:
            if source.trigger == "mqtt" and self.mqtt is None:
                raise UsageError(f"the source {source.name!r} is triggered by MQTT, but there is no table [mqtt]")
            if source.profile not in (None, "default", *self.profiles):
                raise UnknownNameError(
                    f"profile of the source {source.name!r}", str(source.profile), ("default", *self.profiles)
                )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: Path | None = None) -> LineConfig:
        """The configuration of these tables; relative paths are meant from `folder`.

        Raises:
            UnknownNameError: A table or a key is unknown; the nearest one is named.
            UsageError: A value has the wrong type, or settings contradict each other.
        """
        own = {
            "serve": ServiceConfig,
            "retention": RetentionConfig,
            "mqtt": MqttConfig,
            "label_studio": LabelStudioConfig,
            "modbus": ModbusConfig,
            "opcua": OpcUaConfig,
        }
        several = {"folders": RootConfig, "sources": SourceConfig, "webhooks": WebhookConfig}
        inspecting = typing.get_type_hints(Config)
        values: dict[str, Any] = {}
        for name, table in data.items():
            if name in own:
                values[name] = from_dict(own[name], _table(name, table), where=f"[{name}]")
            elif name in several:
                if not isinstance(table, list):
                    raise UsageError(f"{name} are tables that begin with [[{name}]]")
                values[name] = tuple(
                    from_dict(several[name], _table(name, each), where=f"[[{name}]]") for each in table
                )
            elif name == "profiles":
                values[name] = {
                    each: Config.from_dict(_table(f"profiles.{each}", tables), folder=folder)
                    for each, tables in _table(name, table).items()
                }
            elif name not in inspecting:
                raise UnknownNameError("table", name, {*own, *several, "profiles", *inspecting})
        inspect = Config.from_dict({name: data[name] for name in data if name in inspecting}, folder=folder)
        line = cls(inspect=inspect, **values)
        return line if folder is None else line._from_folder(folder)

    @classmethod
    def from_toml(cls, path: str | Path) -> LineConfig:
        """The configuration in a TOML file; UsageError with the file's name where something is wrong in it."""
        path = Path(path).expanduser()
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UsageError(f"{path}: the configuration cannot be read ({reason(error)})") from error
        except ValueError as error:
            raise UsageError(f"{path}: is not TOML ({error})") from error
        try:
            return cls.from_dict(data, folder=path.parent)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    def _from_folder(self, folder: Path) -> LineConfig:
        def named(path: str) -> str:
            return str(folder / Path(path).expanduser())

        def moved(path: str | None) -> str | None:
            return None if path is None else named(path)

        return replace(
            self,
            serve=replace(self.serve, data=named(self.serve.data)),
            folders=tuple(replace(root, path=named(root.path)) for root in self.folders),
            sources=tuple(replace(source, path=moved(source.path)) for source in self.sources),
            mqtt=None
            if self.mqtt is None
            else replace(self.mqtt, password_file=moved(self.mqtt.password_file), tls_ca=moved(self.mqtt.tls_ca)),
            label_studio=None
            if self.label_studio is None
            else replace(self.label_studio, token_file=moved(self.label_studio.token_file)),
            webhooks=tuple(replace(hook, secret_file=named(hook.secret_file)) for hook in self.webhooks),
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    return host in LOOPBACK or host.startswith("127.")


def _table(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} must be a table, not {value!r}")
    return value
