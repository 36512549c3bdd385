"""Results in shards: a Parquet file for each, which is there whole or not at all, and what all of them add up to."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.io.atomic import replace_file
from blemish.io.run_files import PARTS
from blemish.profiles.drift import Seen
from blemish.runs.counts import VERDICTS

__all__ = ["ShardFolder", "Summary"]

MOST_NAMED = 1000  # images without a result that run.json names; the shards hold all of them
MOST_SEEN = 5000  # images that tell how a series compares with a profile
LOOKS = ["width_px", "height_px", "value_low", "statistics", "image_score"]
SUMMED = ("source", "error", "verdict", "top_type", "value_high", *LOOKS)  # columns that a summary reads


@dataclass
class Summary:
    """What the records of a run come to; its size does not depend on their number."""

    images: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    unreadable_count: int = 0
    unwritten_count: int = 0
    top_types: Counter[str] = field(default_factory=Counter)  # of images that are not OK
    value_ranges: Counter[tuple[float, float]] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # source and reason, the first ones
    unwritten: list[tuple[str, str]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)  # how images look, where the run has a profile: drawn by lot
    _looked_at: int = 0
    _by_lot: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, table: Any) -> None:
        """Counts the rows of an Arrow table with the columns `SUMMED`."""
        from pyarrow import compute

        self.images += len(table)
        failed = compute.is_null(table["verdict"])
        _count(self.verdicts, table["verdict"])
        _count(
            self.top_types,
            table.filter(compute.fill_null(compute.not_equal(table["verdict"], "ok"), False))["top_type"],
        )
        ranged = table.filter(compute.is_valid(table["value_low"])).select(["value_low", "value_high"])
        for row in ranged.group_by(["value_low", "value_high"]).aggregate([([], "count_all")]).to_pylist():
            self.value_ranges[row["value_low"], row["value_high"]] += row["count_all"]
        wrong = compute.is_valid(table["error"])
        for mask, named, name in (
            (failed, self.unreadable, "unreadable_count"),
            (compute.and_(wrong, compute.invert(failed)), self.unwritten, "unwritten_count"),
        ):
            rows = table.filter(mask).select(["source", "error"])
            setattr(self, name, getattr(self, name) + len(rows))
            named += [(row["source"], row["error"]) for row in rows.slice(0, MOST_NAMED - len(named)).to_pylist()]

        self._see(table)

    def _see(self, table: Any) -> None:
        """Takes note of how images look, of `MOST_SEEN` of them at most."""
        from pyarrow import compute

        looked_at = table.filter(compute.is_valid(table["verdict"])).select(LOOKS)
        if not len(looked_at) or not looked_at["statistics"][0].as_py():
            return
        for row in looked_at.to_pylist():
            self._looked_at += 1
            seen = Seen(
                size_px=(row["width_px"], row["height_px"]),
                is_deep=row["value_low"] is not None,
                statistics=dict(row["statistics"]),
                image_score=row["image_score"],
            )
            if len(self.seen) < MOST_SEEN:
                self.seen.append(seen)
            elif (place := self._by_lot.randrange(self._looked_at)) < MOST_SEEN:
                self.seen[place] = seen

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds it (docs/results.md)."""
        return {
            "value_ranges_used": [list(used) for used in sorted(self.value_ranges)],
            "counts": {verdict: self.verdicts[verdict] for verdict in VERDICTS} | {"unreadable": self.unreadable_count},
            "unreadable": [{"source": source, "reason": why} for source, why in self.unreadable],
            "unwritten": [{"source": source, "reason": why} for source, why in self.unwritten],
            "unlisted": [],
            "left_out": {},
            "top_types": dict(self.top_types.most_common()),
        }


class ShardFolder:
    """The shards of a run below its folder.

    A shard's name is its number, so that it can only be there once; its file takes its name when it is whole.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PARTS

    def file(self, number: int) -> Path:
        """Where a shard is, or will be."""
        return self.path / f"part-{number:08d}.parquet"

    def landed(self) -> set[int]:
        """The numbers of the shards that are there."""
        found = (path.stem.removeprefix("part-") for path in self.path.glob("part-*.parquet"))
        return {int(number) for number in found if number.isdecimal()}

    def remove_remains(self) -> None:
        """Removes what a killed run has left half-written."""
        for left in self.path.glob(".*.tmp"):
            left.unlink(missing_ok=True)

    def land(self, number: int, table: Any) -> None:
        """Writes the records of a shard."""
        from pyarrow import parquet

        with replace_file(self.file(number)) as temporary:
            parquet.write_table(table, temporary, compression="zstd", row_group_size=1024)

    def summary(self) -> Summary:
        """What the shards that are there add up to."""
        from pyarrow import parquet

        summary = Summary()
        for number in sorted(self.landed()):
            summary.add(parquet.read_table(self.file(number), columns=list(SUMMED)))
        return summary


def _count(counter: Counter[str], column: Any) -> None:
    for row in column.drop_null().value_counts().to_pylist():
        counter[row["values"]] += row["counts"]
