"""The backbones that Blemish knows by name; `catalog.toml` holds the data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blemish.backbones.config import BackboneConfig

__all__ = ["EMBEDDED", "CatalogEntry", "catalog", "entry_of_file"]

CATALOG_FILE = Path(__file__).with_name("catalog.toml")
EMBEDDED = "embedded"  # the backbone that ships inside the package


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A known backbone: its configuration, and where its weights are published."""

    config: BackboneConfig
    hub_repository: str
    hub_files: tuple[str, ...]  # the first that the repository has
    sha256: Mapping[str, str]  # by file name; of files as published
    archive: str = ""  # the address of the authors' own file, "" for none
    default_method: str = ""  # where none is named; "" for the prompt ensemble

    @property
    def name(self) -> str:
        return self.config.name


@cache
def catalog() -> Mapping[str, CatalogEntry]:
    """All backbones that can be pulled, by name."""
    data = tomllib.loads(CATALOG_FILE.read_text(encoding="utf-8"))
    entries = {}
    for name, fields in data.items():
        repository, files, sha256 = (fields.pop(key) for key in ("hub_repository", "hub_files", "sha256"))
        optional = {key: fields.pop(key, "") for key in ("archive", "default_method")}
        entries[name] = CatalogEntry(
            config=BackboneConfig.from_dict({"name": name, **fields}),
            hub_repository=repository,
            hub_files=tuple(files),
            sha256=sha256,
            **optional,
        )
    return entries


def entry_of_file(sha256: str) -> CatalogEntry | None:
    """The known backbone whose published file has this checksum."""
    return next((entry for entry in catalog().values() if sha256 in entry.sha256.values()), None)
