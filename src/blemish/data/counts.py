"""What should be there: the numbers of images that a data set's authors give, against those that were counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from blemish.data.entries import Entry
from blemish.data.files import FileSample

__all__ = ["absent_products", "count_differences", "product_line"]

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
            lines.append(product_line(product))
    return lines + _compare(samples, entry.options.get("totals", {}), where=entry.title)


def absent_products(samples: Iterable[FileSample], entry: Entry) -> list[str]:
    """The products of a known set of which nothing is there."""
    there = {sample.product for sample in samples}
    return [product for product in entry.products if product not in there]


def product_line(product: str) -> str:
    """What `count_differences` says of a product that is missing."""
    return f"{product}: is not there"


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
