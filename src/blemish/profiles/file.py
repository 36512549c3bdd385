"""The profile of a product in one file: arrays by safetensors, everything else as JSON in its header. Nothing pickled.

Arrays: `memory/NAME`, `masks/roi`, `masks/ignore`. The JSON (docs/profiles.md has its fields) stands in the header's metadata
under "blemish".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.calibration import Calibration, Setup, calibration_from
from blemish.config import Config
from blemish.engines.base import ReferenceMemory
from blemish.errors import UsageError
from blemish.io.atomic import reason, replace_file
from blemish.io.codec import from_dict, to_dict
from blemish.io.provenance import utc_now
from blemish.language import DefectType, Vocabulary
from blemish.profiles.drift import Seen
from blemish.results import ModelInfo

__all__ = ["PROFILE_SCHEMA", "PROFILE_SUFFIX", "GoodImage", "ProductProfile", "read_profile", "write_profile"]

PROFILE_SCHEMA, PROFILE_VERSION = "blemish.profile", 1
PROFILE_SUFFIX = ".blemish"
METADATA_KEY = "blemish"
# Tables of the configuration that go with a profile: what decides scores. Paths of masks and vocabularies do not, as their
# content is in the file.
KEPT_SETTINGS = ("backbone", "method", "prompts", "options", "input_px", "tiles", "value_range")


@dataclass(frozen=True, kw_only=True)
class GoodImage:
    """One good image of a profile."""

    source: str  # its path when it was learned
    digest: str  # 16 hex digits of its pixels
    seen: Seen  # size, depth, statistics; the image score is that without itself
    map_peak: float | None  # the highest pixel score without itself, 0..1; None: nobody scored it
    memory_digest: str | None  # its digest in the memory; None: it only calibrates
    origin: Literal["drawn", "added"] = "drawn"  # added: chosen because it was called NG


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductProfile:
    """Everything about one product: `blemish learn` makes it, `--profile` and `blemish.load(profile=...)` take it."""

    memory: ReferenceMemory
    model: ModelInfo  # what remembered the images
    setup: Setup  # what decides the scores, the memory included
    config: Config  # the settings behind the setup that are names or numbers
    vocabulary: Vocabulary | None  # None: the built-in one
    images: tuple[GoodImage, ...]  # the memory's first, in its order; then those that only calibrate
    calibration: Calibration | None  # None: too few images for a promise
    roi: NDArray[np.bool_] | None = None  # [height, width], the pixels that count; None: all
    ignore: NDArray[np.bool_] | None = None  # [height, width], the pixels that do not count; None: none
    history: tuple[Mapping[str, Any], ...] = ()  # what was done to it, the first first
    created: str = field(default_factory=utc_now)  # ISO 8601, UTC
    version: str = __version__  # of Blemish
    path: Path | None = None  # the file it was read from

    @cached_property
    def identity(self) -> str:
        """16 hex digits of everything that is in the file."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode())
        for name, array in sorted(self.arrays().items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    @property
    def name(self) -> str:
        """What results call it: the name of its file and its identity."""
        return f"{'profile' if self.path is None else self.path.name} ({self.identity})"

    @property
    def good(self) -> tuple[Seen, ...]:
        """What its images look like, for `find_drift`: those that were not chosen."""
        return tuple(image.seen for image in self.images if image.origin == "drawn")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the file, by their names there."""
        masks = {"masks/roi": self.roi, "masks/ignore": self.ignore}
        return {f"memory/{name}": array for name, array in self.memory.arrays.items()} | {
            name: mask for name, mask in masks.items() if mask is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """The file's JSON without its schema and identity."""
        return {
            "version": self.version,
            "created": self.created,
            "memory": dict(self.memory.facts),
            "model": self.model.to_dict(),
            "setup": self.setup.to_dict(),
            "config": self.config.to_dict(),
            "vocabulary": None if self.vocabulary is None else [to_dict(kind) for kind in self.vocabulary.types],
            "images": [to_dict(image, keep_none=True) for image in self.images],
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "history": [dict(entry) for entry in self.history],
        }

    def with_history(self, **entry: Any) -> ProductProfile:
        """This profile with one more entry of its history."""
        return replace(self, history=(*self.history, {"date": utc_now(), **entry}))

    def merged(self, config: Config) -> Config:
        """The configuration with the profile's settings where it has the default."""
        default = Config()
        own = {setting.name: value for setting, value in self.config.settings()}
        asked = {setting.name: value for setting, value in config.settings()}
        plain = {setting.name: value for setting, value in default.settings()}
        taken = {name: own[name] for name in KEPT_SETTINGS if asked[name] == plain[name] and own[name] != plain[name]}
        return config.with_settings(**taken)


def kept_config(config: Config, *, input_px: int) -> Config:
    """What of a configuration goes with a profile, and the input size of the words, also where it is the backbone's own."""
    values = {setting.name: value for setting, value in config.settings()} | {"input_px": input_px}
    return Config().with_settings(**{name: values[name] for name in KEPT_SETTINGS})


def write_profile(profile: ProductProfile, path: str | Path) -> ProductProfile:
    """Puts the profile at `path`, whole or not at all; the profile of that file."""
    from safetensors.numpy import save

    path = Path(path).expanduser()
    data = {"schema": f"{PROFILE_SCHEMA}/{PROFILE_VERSION}", "id": profile.identity, **profile.to_dict()}
    arrays = {name: np.ascontiguousarray(array) for name, array in profile.arrays().items()}
    with replace_file(path) as temporary:
        temporary.write_bytes(save(arrays, metadata={METADATA_KEY: json.dumps(data, allow_nan=False)}))
    return replace(profile, path=path)


def read_profile(path: str | Path) -> ProductProfile:
    """The profile in a file.

    Raises:
        UsageError: There is none, it was cut off or changed, or a newer version of Blemish wrote it.
    """
    path = Path(path).expanduser()
    data, arrays = _read(path)
    schema, _, number = str(data.get("schema")).partition("/")
    if schema != PROFILE_SCHEMA or not number.isdigit():
        raise UsageError(f"{path}: is no profile of blemish learn")
    if int(number) > PROFILE_VERSION:
        raise UsageError(
            f"{path}: a newer version of Blemish ({data.get('version')}) wrote this profile ({PROFILE_SCHEMA}/{number}; this "
            f"one reads up to {PROFILE_SCHEMA}/{PROFILE_VERSION}): update Blemish, or learn the product again"
        )
    try:
        profile = _profile_of(data, arrays, path)
        intact = profile.identity == data["id"]
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise UsageError(f"{path}: the profile is damaged ({type(error).__name__}: {error})") from error
    if not intact:
        raise UsageError(
            f"{path}: the profile was changed by hand or damaged: copy it again, or learn the product again"
        )
    return profile


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as stream:
            stream.read(1)
        with safe_open(path, framework="numpy") as opened:
            data = json.loads((opened.metadata() or {}).get(METADATA_KEY, "{}"))
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
    except OSError as error:
        raise UsageError(f"{path}: the profile cannot be read ({reason(error)})") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: is no profile of blemish learn, or was cut off ({path.stat().st_size} bytes): copy it again"
        ) from error
    return data if isinstance(data, dict) else {}, arrays


def _profile_of(data: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], path: Path) -> ProductProfile:
    words, calibration = data["vocabulary"], data["calibration"]
    return ProductProfile(
        memory=ReferenceMemory(
            {name.removeprefix("memory/"): array for name, array in arrays.items() if name.startswith("memory/")},
            data["memory"],
        ),
        model=from_dict(ModelInfo, data["model"]),
        setup=Setup.from_dict(data["setup"]),
        config=Config.from_dict(data["config"]),
        vocabulary=None if words is None else Vocabulary(tuple(from_dict(DefectType, kind) for kind in words)),
        images=tuple(from_dict(GoodImage, image) for image in data["images"]),
        calibration=None if calibration is None else calibration_from(calibration, path),
        roi=arrays.get("masks/roi"),
        ignore=arrays.get("masks/ignore"),
        history=tuple(data["history"]),
        created=data["created"],
        version=data["version"],
        path=path,
    )
