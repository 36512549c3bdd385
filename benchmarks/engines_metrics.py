"""What each engine and precision reaches on real images beside torch, and how many verdicts change.

`python -m benchmarks.engines_metrics --data-root ../shared/data`: the rows named by `--only` (hazelnut and two types of magnetic
tiles), every `--every`th normal image; image and pixel AUROC, largest change of an image score, verdicts that are not torch's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import blemish
from benchmarks.engines_inspect import VARIANTS
from benchmarks.measure import Embedded, measure
from benchmarks.real_sets import Comparison, available

ROWS = ("hazelnut", "Blowhole", "Fray")


class OfEngine(Embedded):
    """The default method, run by one engine."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        super().__init__("embedded", None, name)
        self.inspector = blemish.load("embedded", **settings)


def chosen(comparisons: Sequence[Comparison], names: Sequence[str], every: int) -> list[Comparison]:
    """The comparisons of these names, with every so manieth of the normal images."""
    found = []
    for comparison in comparisons:
        if any(name in comparison.name for name in names):
            normal = comparison.good[:: every if len(comparison.good) > 60 else 1]
            items = (*normal, *(item for item in comparison.items if item.anomalous))
            found.append(replace(comparison, items=items))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines_metrics", description=__doc__)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="+", default=ROWS, metavar="NAME")
    parser.add_argument("--every", type=int, default=8, help="of more than 60 normal images")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    comparisons = chosen(available(arguments.data_root)[0], arguments.only, arguments.every)
    heads = (
        "engine | images | normal / anomalous | image AUROC | pixel AUROC | largest change of a score | other verdicts"
    )
    print(f"| {heads} |\n|{'---|' * 7}")
    for comparison in comparisons:
        first = None
        for name in dict.fromkeys(["torch", *arguments.variants]):
            looker = OfEngine(name, VARIANTS[name])
            row, found = measure(comparison, looker), looker.look(comparison)
            first = first or found
            moved = max(abs(one.image_score - two.image_score) for one, two in zip(first, found, strict=True))
            others = sum(one.verdict != two.verdict for one, two in zip(first, found, strict=True))
            image, pixel = (f"{float(value):.5f}" for value in (row.image_auroc, row.pixel_auroc))
            cells = [
                name,
                comparison.name,
                f"{row.normal} / {row.anomalous}",
                image,
                pixel,
                f"{moved:.0e}",
                str(others),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
