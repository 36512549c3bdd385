"""Which type an image shows: how often the highest type score is right, beside what guessing would reach.

Neither DAPO nor MultiADS classifies images by type; these figures are ours and are to be named so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import UnknownNameError, UsageError
from blemish.metrics.exact import auroc
from blemish.metrics.report import ProductReport, Report, Row, report_of
from blemish.metrics.state import load_counts, save_counts
from blemish.metrics.typed import checked_types, f1_by_type
from blemish.metrics.values import Value, mean, undefined

__all__ = ["IMAGE_TYPE_METRICS", "ImageTypeAccumulator"]

IMAGE_TYPE_METRICS = ("accuracy", "auroc", "f1", "chance", "commonest")
_KIND = "blemish.image-type-tally/1"  # of the file; the word of the first version


@dataclass(frozen=True)
class _Image:
    product: str
    defect_type: str
    scores: tuple[float, ...]


class ImageTypeAccumulator:
    """Type accuracy, macro one-vs-rest AUROC and macro F1 of anomalous images, per product and on average.

    Beside them stand "chance", the accuracy of guessing among the product's types, and "commonest", that of always saying the
    type that most of its images have. A type that a product's images do not show is named in `without`.

    Args:
        types: The names of the defect types of each product, without the normal one.

    Example:
        >>> accumulator = ImageTypeAccumulator({"bottle": ["crack", "stain"]})
        >>> accumulator.add([0.8, 0.1], name="1.png", product="bottle", defect_type="crack")
        >>> accumulator.add([0.6, 0.3], name="2.png", product="bottle", defect_type="stain")
        >>> accumulator.report().mean.values["accuracy"].value
        0.5
    """

    def __init__(self, types: Mapping[str, Sequence[str]]) -> None:
        self.types = checked_types(types, fewest=1)
        self._images: dict[str, _Image] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._images

    def __len__(self) -> int:
        return len(self._images)

    def add(self, type_scores: ArrayLike, *, name: str, product: str, defect_type: str) -> None:
        """Add one anomalous image.

        Args:
            type_scores: A finite score for each of its product's types [T], in their order.
            name: Its name, which no other image has.
            product: One of the products in `types`.
            defect_type: Its true type.

        Raises:
            UsageError: The name was there before, the product or the type is unknown, or the scores do not fit.
        """
        if name in self._images:
            raise UsageError(f"{name}: this image was counted before")
        if product not in self.types:
            raise UnknownNameError("product", product, self.types)
        types = self.types[product]
        if defect_type not in types:
            raise UnknownNameError(f"type of {product}", defect_type, types)
        scores = np.asarray(type_scores, dtype=np.float64)
        if scores.shape != (len(types),) or not np.isfinite(scores).all():
            raise UsageError(f"{name}: {len(types)} types need as many finite scores, not {scores.tolist()}")
        self._images[name] = _Image(product, defect_type, tuple(scores.tolist()))

    def merge(self, other: ImageTypeAccumulator) -> None:
        """Add another one's images; UsageError where an image is in both or the types differ."""
        both = sorted(self._images.keys() & other._images.keys())
        if both:
            raise UsageError(f"{both[0]}: this image is in both accumulators")
        if self.types != other.types:
            raise UsageError("accumulators with different types cannot be merged")
        self._images |= other._images

    def confusion(self, product: str | None = None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The types, and images [T, T] by true type (rows) and highest score (columns): of one product, or of all by name."""
        if product is not None and product not in self.types:
            raise UnknownNameError("product", product, self.types)
        chosen = [image for image in self._images.values() if product in (None, image.product)]
        products = {image.product for image in chosen} if product is None else {product}
        names = tuple(dict.fromkeys(name for key, types in self.types.items() if key in products for name in types))
        counts = np.zeros((len(names), len(names)), np.int64)
        for image in chosen:
            highest = self.types[image.product][int(np.argmax(image.scores))]
            counts[names.index(image.defect_type), names.index(highest)] += 1
        return names, counts

    def report(self) -> Report:
        """All of it; a type's row holds its recall as "accuracy", its AUROC against the other types, and its F1."""
        shown = sorted({image.product for image in self._images.values()})
        return report_of(
            [self._product(product) for product in shown],
            settings=self._setup(),
            type_names=dict.fromkeys(name for product in shown for name in self.types[product]),
        )

    def _product(self, product: str) -> ProductReport:
        types, confusion = self.confusion(product)
        images = [self._images[name] for name in sorted(self._images) if self._images[name].product == product]
        scores = np.array([image.scores for image in images])
        own = confusion.sum(axis=1)
        f1 = f1_by_type(confusion, types, what=f"image of {product}")
        rows = []
        for index, name in enumerate(types):
            values = {"accuracy": f1[name], "auroc": f1[name], "f1": f1[name]}
            if own[index]:
                values["accuracy"] = Value(value=float(confusion[index, index] / own[index]))
                values["auroc"] = _against_others(
                    scores[:, index], [image.defect_type == name for image in images], product
                )
            rows.append(Row(name, 0, int(own[index]), 0, values))
        total = {
            "accuracy": Value(value=float(np.trace(confusion) / own.sum())),
            "auroc": mean({row.name: row.values["auroc"] for row in rows}),
            "f1": mean({row.name: row.values["f1"] for row in rows}),
            "chance": Value(value=1 / len(types)),
            "commonest": Value(value=float(own.max() / own.sum())),
        }
        return ProductReport(Row(product, 0, len(images), 0, total), types=tuple(rows))

    def _setup(self) -> dict[str, Any]:
        return {"types": {product: list(names) for product, names in self.types.items()}}

    def save(self, path: str | Path) -> None:
        """Put everything counted so far at `path`, to `load` and continue; OutputError where that cannot be."""
        rows = [[name, image.product, image.defect_type, list(image.scores)] for name, image in self._images.items()]
        save_counts(path, _KIND, {"setup": self._setup(), "images": rows}, {})

    @classmethod
    def load(cls, path: str | Path) -> ImageTypeAccumulator:
        """The accumulator that `save` put there; UsageError where the file holds none."""
        facts, _ = load_counts(path, _KIND)
        accumulator = cls(**facts["setup"])
        accumulator._images = {
            name: _Image(product, kind, tuple(scores)) for name, product, kind, scores in facts["images"]
        }
        return accumulator


def _against_others(scores: NDArray[np.float64], own: Sequence[bool], product: str) -> Value:
    if all(own):
        return undefined(f"the images of {product} show one type only")
    return auroc(scores, own)
