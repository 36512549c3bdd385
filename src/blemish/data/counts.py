"""What should be there: the numbers of images that a data set's authors give, against those that were counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from blemish.data.entries import Entry
from blemish.data.files import FileSample

__all__ = ["count_differences"]

TRAIN, NORMAL, ANOMALOUS = "train", "normal", "anomalous"
TESTED = "test"


def count_differences(samples: Iterable[FileSample], entry: Entry, *, all_products: bool) -> list[str]:
    """A line for each product and folder whose number of images is not the official one.

    With `all_products`, products of which nothing is there are named too.
    """
    samples = list(samples)
    lines = []
    present = {sample.product for sample in samples}
    for product, expected in entry.products.items():
        if product in present:
            of_product = [sample for sample in samples if sample.product == product]
            lines += _compare(of_product, expected, where=product, only_test=entry.options.get("counted") == TESTED)
        elif all_products:
            lines.append(f"{product}: is not there")
    return lines + _compare(samples, entry.options.get("totals", {}), where=entry.title)


def _compare(samples: list[FileSample], expected: dict[str, int], *, where: str, only_test: bool = False) -> list[str]:
    counts: Counter[str] = Counter()
    for sample in samples:
        if sample.split == "train":
            counts[TRAIN] += 1
            if only_test or TRAIN in expected:
                continue
        words = {sample.folder, sample.defect_type, ANOMALOUS if sample.anomalous else NORMAL}
        counts.update(words)
    return [
        f"{where}, {word}: {counts[word]:,} images where the official set has {count:,}"
        for word, count in expected.items()
        if counts[word] != count
    ]
