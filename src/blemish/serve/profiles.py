"""Profiles: stored configurations with their calibrations, in versions, and which of them is in force.

Every change is a new version or a new choice; nothing is overwritten, so that the one before can be chosen again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.engine import Engine, Row

from blemish.config import Config, ModelConfig, ReferencesConfig
from blemish.errors import UnknownNameError, UsageError
from blemish.io.atomic import write_text
from blemish.profiles import read_profile
from blemish.serve.clock import iso, now_ms
from blemish.serve.data_folder import PROFILES, DataFolder
from blemish.serve.database.tables import choices, profiles
from blemish.serve.history import reading

__all__ = ["DEFAULT_PROFILE", "REQUEST_SETTINGS", "Profiles", "StoredProfile", "check_uploaded"]

DEFAULT_PROFILE = "default"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
NAMES = "a profile's name has letters, digits, '-', '_' and '.', at most 100, not {!r}"
FROM_FILE = "line.toml"  # who made a version that the file describes
# What a request may say besides its profile: nothing that names a file, and nothing that loads another model.
REQUEST_SETTINGS = ("defects", "threshold", "pixel_threshold", "min_area_px", "mm_per_px")


@dataclass(frozen=True, kw_only=True)
class StoredProfile:
    """One version of a profile."""

    name: str
    version: int  # 1 is the first
    config: Config
    calibration: Mapping[str, Any] | None  # as in calibration.json
    created_ms: int
    made_by: str
    why: str
    file: str | None = None  # a .blemish file below the data folder
    setup: Mapping[str, Any] | None = None  # what decides its scores; None before its first image

    def to_dict(self) -> dict[str, Any]:
        thresholds = None if self.calibration is None else self.calibration["thresholds"]
        return {
            "name": self.name,
            "version": self.version,
            "config": self.config.to_dict(),
            "calibrated": thresholds,
            "promise": None if self.calibration is None else self.calibration["promise"],
            "created": iso(self.created_ms),
            "made_by": self.made_by,
            "why": self.why,
        }


class Profiles:
    """The profiles of a service."""

    def __init__(self, db: Engine, folder: DataFolder) -> None:
        self._db = db
        self._folder = folder

    def add(
        self,
        name: str,
        config: Config,
        *,
        who: str,
        why: str = "",
        calibration: Mapping[str, Any] | None = None,
        file: str | None = None,
    ) -> StoredProfile:
        """A new version of a profile, which is in force from now on."""
        if not NAME.fullmatch(name):
            raise UsageError(NAMES.format(name[:120]))
        with self._db.begin() as connection:
            newest = connection.execute(select(func.max(profiles.c.version)).where(profiles.c.name == name)).scalar()
            version = (newest or 0) + 1
            connection.execute(
                insert(profiles).values(
                    name=name,
                    version=version,
                    created_ms=now_ms(),
                    made_by=who,
                    why=why,
                    config=json.dumps(config.to_dict()),
                    calibration=None if calibration is None else json.dumps(calibration),
                    file=file,
                )
            )
            _choose(connection, "version", name, profile=name, version=version, who=who)
        return self.get(name, version)

    def add_file(self, name: str, data: bytes, model: ModelConfig, *, who: str) -> StoredProfile:
        """A new version of a profile from a file of `blemish learn`, which is in force from now on.

        Args:
            name: The profile's name.
            data: The bytes of the file.
            model: Where the model runs; which one it is, the file says.
            who: Who adds it.

        Raises:
            UsageError: It is no such file.
        """
        if not NAME.fullmatch(name):
            raise UsageError(NAMES.format(name[:120]))
        place = f"{PROFILES}/{name}-{hashlib.sha256(data).hexdigest()[:16]}.blemish"
        path = self._folder.path_of(place)
        self._folder.write(place, data)
        try:
            calibration = read_profile(path).calibration
        except UsageError as error:
            self._folder.remove(place)
            raise UsageError(str(error).replace(str(path), "the profile")) from error
        runs = ModelConfig(engine=model.engine, device=model.device, batch_size=model.batch_size)
        config = Config(model=runs, references=ReferencesConfig(profile=str(path)))
        return self.add(
            name,
            config,
            who=who,
            why="a file of blemish learn",
            calibration=None if calibration is None else calibration.to_dict(),
            file=place,
        )

    def use_configured(self, name: str, config: Config) -> None:
        """Adds what the configuration file says of a profile, where it has changed since."""
        with reading(self._db) as connection:
            before = connection.execute(
                select(profiles.c.config)
                .where(profiles.c.name == name, profiles.c.made_by == FROM_FILE)
                .order_by(profiles.c.version.desc())
                .limit(1)
            ).scalar()
        if before is None or json.loads(before) != json.loads(json.dumps(config.to_dict())):
            self.add(name, config, who=FROM_FILE)

    def get(self, name: str, version: int | None = None) -> StoredProfile:
        """A version of a profile, the one in force by default; UnknownNameError where there is none."""
        with reading(self._db) as connection:
            if version is None:
                version = connection.execute(
                    _newest_choice("version", name).with_only_columns(choices.c.version)
                ).scalar()
            row = connection.execute(
                select(profiles).where(profiles.c.name == name, profiles.c.version == version)
            ).one_or_none()
            if row is None:
                known = set(connection.execute(select(profiles.c.name).distinct()).scalars())
                if name in known:
                    raise UsageError(f"the profile {name!r} has no version {version}")
                raise UnknownNameError("profile", name[:120], known)
        return self._stored(row)

    def all(self) -> list[StoredProfile]:
        """All versions of all profiles, the newest first."""
        with reading(self._db) as connection:
            rows = connection.execute(select(profiles).order_by(profiles.c.name, profiles.c.version.desc())).all()
        return [self._stored(row) for row in rows]

    def versions_in_force(self) -> dict[str, int]:
        """The chosen version of each profile."""
        with reading(self._db) as connection:
            names = connection.execute(select(profiles.c.name).distinct()).scalars().all()
            return {
                name: connection.execute(
                    _newest_choice("version", name).with_only_columns(choices.c.version)
                ).scalar_one()
                for name in names
            }

    def note_setup(self, name: str, version: int, setup: Mapping[str, Any]) -> None:
        """Remembers what decides the scores of a version: a worker says it with its first image."""
        with self._db.begin() as connection:
            connection.execute(
                update(profiles)
                .where(profiles.c.name == name, profiles.c.version == version)
                .values(setup=json.dumps(setup))
            )

    def versions_alike(self, profile: StoredProfile) -> list[int]:
        """The versions of a profile that differ in their thresholds at most: their scores can be compared."""

        def scoring(config: Config) -> dict[str, Any]:
            return {table: found for table, found in config.to_dict().items() if table not in ("thresholds", "regions")}

        alike = scoring(profile.config)
        return [
            each.version
            for each in self.all()
            if each.name == profile.name and each.file == profile.file and scoring(each.config) == alike
        ]

    def choose_version(self, name: str, version: int, *, who: str) -> StoredProfile:
        """Puts a version in force, an earlier one to roll back."""
        profile = self.get(name, version)
        with self._db.begin() as connection:
            _choose(connection, "version", name, profile=name, version=version, who=who)
        return profile

    def choose_for_source(self, source: str, name: str, *, who: str) -> None:
        """Gives the images of a source this profile, where they name none themselves."""
        self.get(name)
        with self._db.begin() as connection:
            _choose(connection, "source", source, profile=name, who=who)

    def of_source(self, source: str) -> str:
        """The name of the profile that a source's images get."""
        with reading(self._db) as connection:
            found = connection.execute(_newest_choice("source", source).with_only_columns(choices.c.profile)).scalar()
        return found or DEFAULT_PROFILE

    def by_source(self) -> dict[str, str]:
        """The chosen profiles of all sources that have one."""
        with reading(self._db) as connection:
            chosen = connection.execute(
                select(choices.c.subject, choices.c.profile)
                .where(choices.c.kind == "source")
                .order_by(choices.c.number)
            )
            return {row.subject: row.profile for row in chosen}

    def setup(self, profile: StoredProfile, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a worker needs to know: the configuration with what a request asks for, and the file of the calibration.

        Raises:
            UnknownNameError: The request names a setting that is none.
            UsageError: It gives a setting a value that it cannot have.
        """
        config, given = profile.config, dict(asked or {})
        vocabulary = given.pop("vocabulary", None)
        for name in given:
            if name not in REQUEST_SETTINGS:
                raise UnknownNameError("setting of a request", name[:120], (*REQUEST_SETTINGS, "vocabulary"))
        if vocabulary is not None:
            if not isinstance(vocabulary, str):
                raise UsageError("the vocabulary is the text of a vocabulary file (TOML)")
            given["vocabulary"] = self._folder.write_vocabulary(vocabulary)
        if given:
            config = config.with_settings(**given)
        return {"config": config.to_dict(), "calibration": self.calibration_file(profile)}

    def calibration_file(self, profile: StoredProfile) -> str | None:
        """The file of its calibration; None where it has none."""
        if profile.calibration is None:
            return None
        path = self._folder.path / PROFILES / f"{profile.name}-{profile.version}.calibration.json"
        if not path.is_file():
            write_text(path, json.dumps(profile.calibration, indent=2) + "\n")
        return str(path)

    def _stored(self, row: Row[Any]) -> StoredProfile:
        config = Config.from_dict(json.loads(row.config))
        if row.file is not None:  # the data folder may lie elsewhere since: after a restore
            config = config.with_settings(profile=str(self._folder.path_of(row.file)))
        return StoredProfile(
            name=row.name,
            version=row.version,
            config=config,
            calibration=None if row.calibration is None else json.loads(row.calibration),
            created_ms=row.created_ms,
            made_by=row.made_by,
            why=row.why,
            file=row.file,
            setup=None if row.setup is None else json.loads(row.setup),
        )


def check_uploaded(config: Config) -> Config:
    """The configuration, unless it names a file: what comes by HTTP names none."""
    for setting, value in config.settings():
        names_file = setting.path == "path" or (setting.path and any(mark in str(value) for mark in "/\\~"))
        if value is not None and names_file:
            raise UsageError(
                f"a profile that is uploaded names no files: leave {setting.name} out, or set it in line.toml"
            )
    if config.thresholds.calibration is not None:
        raise UsageError("the calibration of a profile is uploaded with it, not named in it")
    return config


def _newest_choice(kind: str, subject: str) -> Any:
    return (
        select(choices)
        .where(choices.c.kind == kind, choices.c.subject == subject)
        .order_by(choices.c.number.desc())
        .limit(1)
    )


def _choose(
    connection: Connection, kind: str, subject: str, *, profile: str, version: int | None = None, who: str
) -> None:
    connection.execute(
        insert(choices).values(
            kind=kind, subject=subject, profile=profile, version=version, created_ms=now_ms(), made_by=who
        )
    )
