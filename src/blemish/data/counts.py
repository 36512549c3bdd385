"""What should be there: the numbers of images that a data set's authors give, against those that were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from blemish.data.entries import Entry
from blemish.data.files import FileSample

__all__ = ["count_differences"]

TRAIN, NORMAL, ANOMALOUS = "train", "normal", "anomalous"
TESTED = "test"


def count_differences(samples: Iterable[FileSample], entry: Entry, *, whole: bool) -> list[str]:
    """A line for each product and folder whose number of images is not the official one.

    With `whole`, products of which nothing is there are named too.
    """
    samples = list(samples)
    lines = []
    there = {sample.product for sample in samples}
    for product, expected in entry.products.items():
        if product in there:
            mine = [sample for sample in samples if sample.product == product]
            lines += _compare(mine, expected, where=product, only_test=entry.options.get("counted") == TESTED)
        elif whole:
            lines.append(f"{product}: is not there")
    return lines + _compare(samples, entry.options.get("totals", {}), where=entry.title)


def _compare(samples: list[FileSample], expected: dict[str, int], *, where: str, only_test: bool = False) -> list[str]:
    found: Counter[str] = Counter()
    for sample in samples:
        if sample.split == "train":
            found[TRAIN] += 1
            if only_test or TRAIN in expected:
                continue
        words = {sample.folder, sample.defect_type, ANOMALOUS if sample.anomalous else NORMAL}
        found.update(words)
    return [
        f"{where}, {word}: {found[word]:,} images where the official set has {count:,}"
        for word, count in expected.items()
        if found[word] != count
    ]
