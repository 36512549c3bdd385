"""Which type it is: pixels (the multi-type segmentation of DAPO and MultiADS) and images (our own), map by map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import UnknownNameError, UsageError
from blemish.metrics import steps as ranking
from blemish.metrics.bins import Histogram, ScoreOrder
from blemish.metrics.checks import checked_map, checked_mask
from blemish.metrics.report import ProductReport, Report, Row, mean_row
from blemish.metrics.state import Arrays, nested, read_state, under, write_state
from blemish.metrics.values import Value, mean, undefined

__all__ = ["PIXEL_TYPE_METRICS", "PixelTypeAccumulator", "checked_types", "f1_by_type"]

PIXEL_TYPE_METRICS = ("auroc", "ap", "f1")
_KIND = "blemish.pixel-type-tally/1"
_CELLS = 1 << 15


@dataclass
class _Product:
    """The counts of one product with the types T: one histogram a type, and pixels by true and by highest type [T, T]."""

    types: tuple[str, ...]
    histograms: list[Histogram]
    confusion: NDArray[np.int64]
    images: NDArray[np.int64]  # [T], by the type of the image


class PixelTypeAccumulator:
    """AUROC and AP of each type's map against all other pixels, and F1 of the highest type, per product and on average.

    types: of each product the names of its types, the normal one first; score_range: of the maps, (0, L) for a sum of
    probabilities over L levels. Memory: at most 0.8 MB for each type of a product. A type that a product's images do not
    show has no value there: means name it in `without`, and never count it as zero.
    """

    def __init__(
        self,
        types: Mapping[str, Sequence[str]],
        *,
        score_range: tuple[float, float] | None = (0.0, 1.0),
        cells: int = _CELLS,
    ) -> None:
        self.types = checked_types(types, fewest=2)
        self.order = ScoreOrder(None if score_range is None else (float(score_range[0]), float(score_range[1])))
        self.cells = Histogram(cells=cells).cells
        self._names: set[str] = set()
        self._products: dict[str, _Product] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, type_maps: ArrayLike, mask: ArrayLike, *, name: str, product: str, defect_type: str = "") -> None:
        """One image: a map of each of the product's types [T, H, W] in their order, and the mask [H, W] of its one defect type.

        defect_type: "" or the normal type for a normal image. UsageError where the name was there before, the product or the
        type is unknown, shapes differ, a score is not finite or outside the range, or a normal image has a mask.
        """
        maps = np.asarray(type_maps)
        if name in self._names:
            raise UsageError(f"{name}: this image was counted before")
        if product not in self.types:
            raise UnknownNameError("product", product, self.types)
        types = self.types[product]
        if defect_type and defect_type not in types:
            raise UnknownNameError(f"type of {product}", defect_type, types)
        if maps.ndim != 3 or len(maps) != len(types):
            raise UsageError(f"{name}: {len(types)} types need maps [{len(types)}, H, W], not the shape {maps.shape}")
        truth = checked_mask(np.asarray(mask))
        checked = [checked_map(one, truth)[0] for one in maps]
        number = types.index(defect_type) if defect_type else 0
        if number == 0 and truth.any():
            raise UsageError(f"{name}: anomalous pixels need a defect type")
        keys = [self.order.keys(one).reshape(-1) for one in checked]
        held = self._product(product)
        own_pixels = truth.reshape(-1)
        for index, (histogram, of_type) in enumerate(zip(held.histograms, keys, strict=True)):
            whole = histogram.count(of_type)
            marked = histogram.count(of_type[own_pixels])
            own = (whole - marked) * (index == 0) + marked * (index == number)
            histogram.add("anomalous", own)
            histogram.add("normal", whole - own)
        highest = np.stack(checked).argmax(axis=0).reshape(-1)
        labels = np.where(own_pixels, number, 0)
        held.confusion += np.bincount(labels * len(types) + highest, minlength=len(types) ** 2).reshape(
            held.confusion.shape
        )
        held.images[number] += 1
        self._names.add(name)

    def _product(self, product: str) -> _Product:
        types = self.types[product]
        if product not in self._products:
            histograms = [Histogram(cells=self.cells) for _ in types]
            square = np.zeros((len(types), len(types)), np.int64)
            self._products[product] = _Product(types, histograms, square, np.zeros(len(types), np.int64))
        return self._products[product]

    def merge(self, other: PixelTypeAccumulator) -> None:
        """Add what another one counted of other images, as if one had been fed with all; UsageError where one is in both."""
        both = sorted(self._names & other._names)
        if both:
            raise UsageError(f"{both[0]}: this image is in both tallies")
        if self._setup() != other._setup():
            raise UsageError("tallies with different types or settings cannot be merged")
        self._names |= other._names
        for product, theirs in other._products.items():
            held = self._product(product)
            for ours, more in zip(held.histograms, theirs.histograms, strict=True):
                ours.merge(more)
            held.confusion += theirs.confusion
            held.images += theirs.images

    def report(self) -> Report:
        """Per product its types (AUROC and AP one-vs-rest, F1 of the argmax) and their macro means, the normal type included.

        `mean` is over products, `types` over the products that show the type (MultiADS and DAPO, their multi-type protocol).
        """
        products = tuple(self._report(name, self._products[name]) for name in sorted(self._products))
        names = dict.fromkeys(row.name for product in products for row in product.types)
        types = []
        for name in names:
            rows = {product.row.name: row for product in products for row in product.types if row.name == name}
            types.append(mean_row(name, rows))
        by_product = {product.row.name: product.row for product in products}
        return Report(products, mean_row("mean", by_product), tuple(types), settings=self._setup())

    def _report(self, name: str, held: _Product) -> ProductReport:
        f1 = f1_by_type(held.confusion, held.types, what="pixel")
        rows = []
        for index, type_name in enumerate(held.types):
            table = held.histograms[index].steps(self.order)
            values = {"auroc": ranking.auroc(table), "ap": ranking.average_precision(table), "f1": f1[type_name]}
            if not held.confusion[index].any():
                values = dict.fromkeys(values, undefined(f"no pixel of {name} is {type_name!r}"))
            rows.append(Row(type_name, int(held.images[0]), int(held.images[index]) if index else 0, 0, values))
        macro = {metric: mean({row.name: row.values[metric] for row in rows}) for metric in PIXEL_TYPE_METRICS}
        total = Row(name, int(held.images[0]), int(held.images[1:].sum()), 0, macro)
        return ProductReport(total, types=tuple(rows))

    def confusion(self, product: str) -> NDArray[np.int64]:
        """Pixels [T, T] of a product by true type (rows) and highest map (columns), in the order of its types."""
        if product not in self.types:
            raise UnknownNameError("product", product, self.types)
        return self._product(product).confusion.copy()

    def _setup(self) -> dict[str, Any]:
        types = {product: list(names) for product, names in self.types.items()}
        return {"types": types, "score_range": self.order.low_high, "cells": self.cells}

    def save(self, path: str | Path) -> None:
        """Put everything counted so far at `path`, to `load` and continue; OutputError where that cannot be."""
        arrays: Arrays = {}
        facts: dict[str, Any] = {}
        for product, held in self._products.items():
            states = [histogram.state() for histogram in held.histograms]
            facts[product] = [state[0] for state in states]
            for index, state in enumerate(states):
                arrays |= nested(f"{len(facts)}/{index}", state[1])
            arrays |= {f"{len(facts)}/confusion": held.confusion, f"{len(facts)}/images": held.images}
        write_state(path, _KIND, {"setup": self._setup(), "names": sorted(self._names), "products": facts}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> PixelTypeAccumulator:
        """The tally that `save` put there; UsageError where the file holds none."""
        facts, arrays = read_state(path, _KIND)
        tally = cls(**facts["setup"])
        tally._names = set(facts["names"])
        for number, (product, states) in enumerate(facts["products"].items(), start=1):
            own = under(str(number), arrays)
            histograms = [Histogram.restored(state, under(str(index), own)) for index, state in enumerate(states)]
            tally._products[product] = _Product(tally.types[product], histograms, own["confusion"], own["images"])
        return tally


def checked_types(types: Mapping[str, Sequence[str]], *, fewest: int) -> dict[str, tuple[str, ...]]:
    """Each product's types as a tuple; UsageError where there are too few, or a name comes twice or is empty."""
    for product, names in types.items():
        if isinstance(names, str) or len(names) < fewest:
            raise UsageError(f"{product}: a product needs at least {fewest} types, not {names!r}")
        if len(set(names)) < len(names) or "" in names:
            raise UsageError(f"{product}: types have names that differ, not {list(names)}")
    return {product: tuple(names) for product, names in types.items()}


def f1_by_type(confusion: NDArray[np.int64], types: Sequence[str], *, what: str) -> dict[str, Value]:
    """F1 of each type from counts [T, T] by true (rows) and predicted type; undefined where a type never truly occurs."""
    found = {}
    for index, name in enumerate(types):
        true, own, predicted = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
        found[name] = Value(value=float(2 * true / (own + predicted))) if own else undefined(f"no {what} is {name!r}")
    return found
