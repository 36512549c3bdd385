"""What the embedded model reaches on real images, as the table in docs/embedded-model.md: `make measure DATA=folder`.

`python -m benchmarks.measure --data-root ../shared/data` prints a Markdown table; `--json FILE` keeps the numbers.

Image AUROC has a bootstrap interval over images, pixel AUROC is over all pixels of all images at original size.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import blemish
from benchmarks.real_sets import SIMULATED, Comparison, available
from blemish.metrics import PixelRanking, Value, auroc
from blemish.pipeline import Inspector


@dataclass(frozen=True)
class Row:
    """One line of the table; intervals are 95 %."""

    name: str
    normal: int
    anomalous: int
    image_auroc: Value
    pixel_auroc: Value | None
    named: dict[str, int]  # how often each type comes first among the anomalous images
    verdicts_normal: dict[str, int]
    verdicts_anomalous: dict[str, int]


class Cache:
    """Inspections by path: the normal tiles are in five rows but are inspected once."""

    def __init__(self, inspector: Inspector) -> None:
        self.inspector = inspector
        self.known: dict[Path, blemish.Inspection] = {}

    def __call__(self, paths: list[Path]) -> list[blemish.Inspection]:
        new = [path for path in paths if path not in self.known]
        for path, inspection in zip(new, self.inspector.inspect(iter(new)), strict=True):
            self.known[path] = inspection
        return [self.known[path] for path in paths]


def measure(comparison: Comparison, inspect: Cache) -> Row:
    inspections = inspect([item.path for item in comparison.items])
    labels = np.array([item.anomalous for item in comparison.items])
    scores = np.array([inspection.image_score for inspection in inspections])
    pixels = None
    if comparison.has_masks:
        pixels = PixelRanking()
        for item, inspection in zip(comparison.items, inspections, strict=True):
            anomaly_map = inspection.map_at_original()
            name = (
                f"{item.path.parent.name}/{item.path.name}"  # decides the bootstrap, so no part of the machine is in it
            )
            pixels.add(np.clip(anomaly_map, 0, 1), item.mask_pixels(anomaly_map.shape), name=name)
    pairs = list(zip(inspections, labels, strict=True))
    return Row(
        name=comparison.name,
        normal=int((~labels).sum()),
        anomalous=int(labels.sum()),
        image_auroc=auroc(scores, labels, rounds=1000),
        pixel_auroc=pixels.auroc() if pixels else None,
        named=_counts([str(inspection.top_type) for inspection, anomalous in pairs if anomalous]),
        verdicts_normal=_counts([inspection.verdict.value for inspection, anomalous in pairs if not anomalous]),
        verdicts_anomalous=_counts([inspection.verdict.value for inspection, anomalous in pairs if anomalous]),
    )


def _counts(names: list[str]) -> dict[str, int]:
    return dict(sorted(((name, names.count(name)) for name in set(names)), key=lambda pair: -pair[1]))


def table(rows: list[Row]) -> str:
    """The rows as Markdown, the mean over the tile types after them."""
    lines = ["| images | normal / anomalous | image AUROC (95 %) | pixel AUROC (95 %) |", "|---|---|---|---|"]
    for row in rows:
        mark = " (simulated)" if row.name.startswith(SIMULATED) else ""
        pixel = "no masks" if row.pixel_auroc is None else row.pixel_auroc
        lines.append(f"| {row.name}{mark} | {row.normal} / {row.anomalous} | {row.image_auroc} | {pixel} |")
    tiles = [row for row in rows if row.name.startswith("magnetic tile")]
    if tiles:
        image_mean = float(np.mean([float(row.image_auroc) for row in tiles]))
        pixel_mean = float(np.mean([float(row.pixel_auroc) for row in tiles if row.pixel_auroc is not None]))
        lines.append(f"| magnetic tile, mean of the {len(tiles)} | | {image_mean:.3f} | {pixel_mean:.3f} |")
    return "\n".join(lines)


def _record(row: Row) -> dict[str, Any]:
    values = {"image_auroc": row.image_auroc.to_dict(), "pixel_auroc": row.pixel_auroc and row.pixel_auroc.to_dict()}
    return {**asdict(row), **values}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure", description=__doc__)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--method", default=None)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    comparisons, missing = available(arguments.data_root)
    for line in missing:
        print("missing:", line)
    inspect = Cache(blemish.load(arguments.backbone, method=arguments.method))
    rows, started = [], time.monotonic()
    for comparison in comparisons:
        if arguments.only in comparison.name:
            rows.append(measure(comparison, inspect))
            print(f"{rows[-1].name}: {rows[-1]}", flush=True)
    print(f"\n{table(rows)}\n\n{len(inspect.known)} images, {time.monotonic() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps([_record(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
