"""Published results, to stand beside ours: rows of the same method on the same data set, each with its source and quality."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from blemish.metrics import METRICS

__all__ = ["UNIT", "Published", "published", "published_name"]

UNIT = "percent"
QUALITIES = ("paper", "author-repo", "figure", "third-party")  # the most trusted first
NAMES = {
    "adaclip": "AdaCLIP",
    "anomalyclip": "AnomalyCLIP",
    "aprilgan": "APRIL-GAN",
    "cocoop": "CoCoOp",
    "coop": "CoOp",
    "dapo": "DAPO",
    "faprompt": "FAPrompt",
    "multiads": "MultiADS",
    "winclip": "WinCLIP",
}
OTHER_READINGS = {"visa-single-type": "visa"}


@dataclass(frozen=True)
class Published:
    """One row of a published table. values are percent as printed, by the names of our metrics; trained_on is "" where the source
    does not say; quality is one of `QUALITIES`."""

    method: str
    dataset: str
    trained_on: str
    values: Mapping[str, float]
    source: str
    quality: str
    note: str = ""
    derived: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "values": dict(self.values), "unit": UNIT}


def published_name(method: str) -> str:
    """What publications call one of our methods; its own name where none is known."""
    return NAMES.get(method, method)


def published(method: str, dataset: str) -> tuple[Published, ...]:
    """The rows of our method, or of a published name, on the data set, the most trusted first."""
    name, place = published_name(method), OTHER_READINGS.get(dataset, dataset)
    found = [row for row in _rows() if row.method == name and row.dataset == place]
    return tuple(sorted(found, key=lambda row: QUALITIES.index(row.quality)))


@cache
def _rows() -> tuple[Published, ...]:
    text = (resources.files(__package__) / "published.toml").read_text(encoding="utf-8")
    return tuple(
        Published(
            method=row["method"],
            dataset=row["dataset"],
            trained_on=row["trained_on"],
            values={metric: row[metric] for metric in METRICS if metric in row},
            source=source["name"],
            quality=source["quality"],
            note=row.get("note", ""),
            derived=row.get("derived", False),
        )
        for source in tomllib.loads(text)["source"]
        for row in source["rows"]
    )
