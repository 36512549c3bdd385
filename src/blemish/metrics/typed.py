"""Which type it is: pixels (the multi-type segmentation of DAPO and MultiADS) and images (our own), map by map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import UnknownNameError, UsageError
from blemish.metrics import steps as step_metrics
from blemish.metrics.bins import Histogram
from blemish.metrics.checks import checked_map, checked_mask
from blemish.metrics.codes import ScoreEncoding
from blemish.metrics.report import ProductReport, Report, Row, report_of
from blemish.metrics.state import Arrays, load_counts, nested, renamed, save_counts, under
from blemish.metrics.values import Value, mean, undefined

__all__ = ["PIXEL_TYPE_METRICS", "PixelTypeAccumulator", "checked_types", "f1_by_type"]

PIXEL_TYPE_METRICS = ("auroc", "ap", "f1")
_KIND = "blemish.pixel-type-tally/1"  # of the file; the word of the first version
_BINS = 1 << 15


@dataclass
class _Product:
    """The counts of one product with T types."""

    types: tuple[str, ...]
    histograms: list[Histogram]  # one for each type
    confusion: NDArray[np.int64]  # [T, T], pixels by true type and by type of the highest map
    images: NDArray[np.int64]  # [T], by the type of the image


class PixelTypeAccumulator:
    """AUROC and AP of each type's map against all other pixels, and F1 of the highest type, per product and on average.

    A type that a product's images do not show has no value there: means name it in `without`, and never count it as zero.
    Memory: at most 0.8 MB for each type of a product.

    Args:
        types: The names of the types of each product, the normal one first.
        score_range: Of the maps, (0, L) for a sum of probabilities over L levels; None where nobody knows it.
        bins: As in `PixelRanking`.
    """

    def __init__(
        self,
        types: Mapping[str, Sequence[str]],
        *,
        score_range: tuple[float, float] | None = (0.0, 1.0),
        bins: int = _BINS,
    ) -> None:
        self.types = checked_types(types, fewest=2)
        self.encoding = ScoreEncoding(None if score_range is None else (float(score_range[0]), float(score_range[1])))
        self.bins = Histogram(bins=bins).bins
        self._names: set[str] = set()
        self._products: dict[str, _Product] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, type_maps: ArrayLike, mask: ArrayLike, *, name: str, product: str, defect_type: str = "") -> None:
        """Add one image.

        Args:
            type_maps: A map of each of the product's types [T, H, W], in their order.
            mask: The mask [H, W] of its one defect type.
            name: Its name, which no other image has.
            product: One of the products in `types`.
            defect_type: "" or the normal type for a normal image.

        Raises:
            UsageError: The name was there before, the product or the type is unknown, shapes differ, a score is not finite or
                outside the range, or a normal image has a mask.
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
        checked = [checked_map(type_map, truth)[0] for type_map in maps]
        number = types.index(defect_type) if defect_type else 0
        if number == 0 and truth.any():
            raise UsageError(f"{name}: anomalous pixels need a defect type")
        codes = [self.encoding.encode(scores).reshape(-1) for scores in checked]
        counts = self._product(product)
        own_pixels = truth.reshape(-1)
        for index, (histogram, of_type) in enumerate(zip(counts.histograms, codes, strict=True)):
            everywhere = histogram.count(of_type)
            in_mask = histogram.count(of_type[own_pixels])
            own = (everywhere - in_mask) * (index == 0) + in_mask * (index == number)
            histogram.add("anomalous", own)
            histogram.add("normal", everywhere - own)
        highest = np.stack(checked).argmax(axis=0).reshape(-1)
        labels = np.where(own_pixels, number, 0)
        pairs = np.bincount(labels * len(types) + highest, minlength=len(types) ** 2)
        counts.confusion += pairs.reshape(counts.confusion.shape)
        counts.images[number] += 1
        self._names.add(name)

    def _product(self, product: str) -> _Product:
        types = self.types[product]
        if product not in self._products:
            histograms = [Histogram(bins=self.bins) for _ in types]
            square = np.zeros((len(types), len(types)), np.int64)
            self._products[product] = _Product(types, histograms, square, np.zeros(len(types), np.int64))
        return self._products[product]

    def merge(self, other: PixelTypeAccumulator) -> None:
        """Add what another one counted of other images, as if one had got all; UsageError where one is in both."""
        both = sorted(self._names & other._names)
        if both:
            raise UsageError(f"{both[0]}: this image is in both accumulators")
        if self._setup() != other._setup():
            raise UsageError("accumulators with different types or settings cannot be merged")
        self._names |= other._names
        for product, theirs in other._products.items():
            counts = self._product(product)
            for ours, more in zip(counts.histograms, theirs.histograms, strict=True):
                ours.merge(more)
            counts.confusion += theirs.confusion
            counts.images += theirs.images

    def report(self) -> Report:
        """Per product its types (AUROC and AP one-vs-rest, F1 of the argmax) and their macro means, the normal type included.

        `mean` is over products, `types` over the products that show the type (MultiADS and DAPO, their multi-type protocol).
        """
        return report_of(
            [self._report(name, self._products[name]) for name in sorted(self._products)],
            settings=self._setup(),
            type_names=dict.fromkeys(name for product in sorted(self._products) for name in self.types[product]),
        )

    def _report(self, name: str, counts: _Product) -> ProductReport:
        f1 = f1_by_type(counts.confusion, counts.types, what="pixel")
        rows = []
        for index, type_name in enumerate(counts.types):
            table = counts.histograms[index].steps(self.encoding)
            values = {
                "auroc": step_metrics.auroc(table),
                "ap": step_metrics.average_precision(table),
                "f1": f1[type_name],
            }
            if not counts.confusion[index].any():
                values = dict.fromkeys(values, undefined(f"no pixel of {name} is {type_name!r}"))
            rows.append(Row(type_name, int(counts.images[0]), int(counts.images[index]) if index else 0, 0, values))
        macro = {metric: mean({row.name: row.values[metric] for row in rows}) for metric in PIXEL_TYPE_METRICS}
        total = Row(name, int(counts.images[0]), int(counts.images[1:].sum()), 0, macro)
        return ProductReport(total, types=tuple(rows))

    def confusion(self, product: str) -> NDArray[np.int64]:
        """Pixels [T, T] of a product by true type (rows) and highest map (columns), in the order of its types."""
        if product not in self.types:
            raise UnknownNameError("product", product, self.types)
        return self._product(product).confusion.copy()

    def _setup(self) -> dict[str, Any]:
        types = {product: list(names) for product, names in self.types.items()}
        return {"types": types, "score_range": self.encoding.low_high, "bins": self.bins}

    def save(self, path: str | Path) -> None:
        """Put everything counted so far at `path`, to `load` and continue; OutputError where that cannot be."""
        arrays: Arrays = {}
        facts: dict[str, Any] = {}
        for product, counts in self._products.items():
            states = [histogram.state() for histogram in counts.histograms]
            facts[product] = [state[0] for state in states]
            for index, state in enumerate(states):
                arrays |= nested(f"{len(facts)}/{index}", state[1])
            arrays |= {f"{len(facts)}/confusion": counts.confusion, f"{len(facts)}/images": counts.images}
        save_counts(path, _KIND, {"setup": self._setup(), "names": sorted(self._names), "products": facts}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> PixelTypeAccumulator:
        """The accumulator that `save` put there; UsageError where the file holds none."""
        facts, arrays = load_counts(path, _KIND)
        accumulator = cls(**renamed(facts["setup"]))
        accumulator._names = set(facts["names"])
        for number, (product, states) in enumerate(facts["products"].items(), start=1):
            own = under(str(number), arrays)
            histograms = [Histogram.restored(state, under(str(index), own)) for index, state in enumerate(states)]
            accumulator._products[product] = _Product(
                accumulator.types[product], histograms, own["confusion"], own["images"]
            )
        return accumulator


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
    values = {}
    for index, name in enumerate(types):
        true, own, predicted = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
        values[name] = Value(value=float(2 * true / (own + predicted))) if own else undefined(f"no {what} is {name!r}")
    return values
