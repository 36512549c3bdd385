"""What the records of a run add up to: verdicts, types, value ranges, images without a result."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blemish.errors import ImageError
from blemish.profiles.drift import Seen
from blemish.runs.names import picture_name

__all__ = ["RunCounts"]

MOST_SEEN = 10_000  # images: more say nothing new of drift
VERDICTS = ("ok", "review", "ng")


@dataclass
class RunCounts:
    """Counts of a run's records, added one by one."""

    verdicts: Counter[str] = field(default_factory=Counter)
    top_types: Counter[str] = field(default_factory=Counter)  # of images that are not OK
    value_ranges: Counter[tuple[float, float]] = field(default_factory=Counter)  # of images with more than 8 bits
    unreadable: list[ImageError] = field(default_factory=list)  # images that could not be inspected
    unwritten: list[ImageError] = field(default_factory=list)  # images whose pictures could not be written
    unlisted: list[ImageError] = field(default_factory=list)  # folders that could not be looked into
    left_out: dict[str, int] = field(default_factory=dict)  # files in the folders that are no images, by suffix
    notes: Counter[str] = field(default_factory=Counter)  # what is to be known of how images were read
    sources: set[str] = field(default_factory=set)
    picture_names: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)  # how images look, where the run has a profile: of many a sample
    _seen_count: int = 0
    _lot: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, record: Mapping[str, Any]) -> None:
        """Counts the record of one image."""
        if (
            record["source"] in self.sources
        ):  # it was written again while the folder was watched: its last record counts
            self.unreadable = [error for error in self.unreadable if error.source != record["source"]]
        self.sources.add(record["source"])
        note = (record.get("tags") or {}).get("note")
        if note is not None:
            self.notes[note] += 1
        if record["mask"] is not None:
            self.picture_names.add(picture_name(record["mask"]))
        if record["verdict"] is None:
            self.unreadable.append(ImageError(record["source"], record["error"]))
            return
        self.verdicts[record["verdict"]] += 1
        if record.get("statistics"):
            self._see(record)
        if record["error"] is not None:
            self.unwritten.append(ImageError(record["source"], record["error"]))
        if record["verdict"] != "ok" and record["top_type"] is not None:
            self.top_types[record["top_type"]] += 1
        if record["value_range"] is not None:
            low, high = record["value_range"]
            self.value_ranges[low, high] += 1

    def _see(self, record: Mapping[str, Any]) -> None:
        """Keeps how an image looks, or lets it take the place of another, so that each of many is kept with the same chance."""
        self._seen_count += 1
        place = len(self.seen) if self._seen_count <= MOST_SEEN else self._lot.randrange(self._seen_count)
        if place >= MOST_SEEN:
            return
        self.seen[place : place + 1] = [
            Seen(
                size_px=(record["width_px"], record["height_px"]),
                is_deep=record["value_range"] is not None,
                statistics=record["statistics"],
                image_score=record["image_score"],
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds them (docs/results.md)."""
        return {
            "value_ranges_used": [list(used) for used in sorted(self.value_ranges)],
            "counts": {verdict: self.verdicts[verdict] for verdict in VERDICTS} | {"unreadable": len(self.unreadable)},
            "unreadable": [{"source": error.source, "reason": error.reason} for error in self.unreadable],
            "unwritten": [{"source": error.source, "reason": error.reason} for error in self.unwritten],
            "unlisted": [{"source": error.source, "reason": error.reason} for error in self.unlisted],
            "left_out": self.left_out,
        }
