"""All anomaly metrics of a test set in one pass: image by image, mergeable, resumable, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from blemish.errors import UsageError
from blemish.metrics.exact import image_metrics
from blemish.metrics.pixels import ROUNDS, SIZE_EDGES, PixelRanking
from blemish.metrics.report import METRICS, ProductReport, Report, Row, report_of
from blemish.metrics.state import Arrays, load_counts, nested, renamed, save_counts, under
from blemish.metrics.steps import AUPIMO_BOUNDS, AUPRO_LIMIT, Steps
from blemish.metrics.values import Value, undefined

__all__ = ["AnomalyAccumulator"]

_KIND = "blemish.anomaly-tally/1"  # of the file; the word of the first version
_BINS = 1 << 15  # a type of a product costs at most 1.3 MB
_IMAGE_NAMES = {"auroc": "image_auroc", "average_precision": "image_ap", "f1_max": "image_f1_max"}
_PIXEL_NAMES = {
    "auroc": "pixel_auroc",
    "average_precision": "pixel_ap",
    "f1_max": "pixel_f1_max",
    "aupro": "aupro",
    "aupimo": "aupimo",
}


@dataclass(frozen=True)
class _Image:
    """What is remembered of an image; its map is not."""

    product: str
    anomalous: bool
    defect_type: str  # "" where nobody named it
    score: float | None
    vanished: bool  # whether it is anomalous and its mask is empty


class AnomalyAccumulator:
    """Image and pixel metrics per product, defect type and size of defect, and their means.

    Every image has a name of its own; `name in accumulator` tells a resumed evaluation what is done. Names and image scores
    are kept, maps are not.

    Args:
        score_range: The range (low, high) of the maps; None where nobody knows it. Image scores may be anything finite.
        bins: As in `PixelRanking`.
        rounds: The number of bootstrap resamples, of image scores as of maps; 0 for none.
        size_edges: As in `PixelRanking`.

    Example:
        >>> accumulator = AnomalyAccumulator(rounds=0)
        >>> for name, score in [("good/1.png", 0.1), ("good/2.png", 0.4), ("crack/1.png", 0.3), ("crack/2.png", 0.9)]:
        ...     accumulator.add(None, None, name=name, anomalous="crack" in name, image_score=score)
        >>> accumulator.report().mean.values["image_auroc"].value
        0.75
    """

    def __init__(
        self,
        *,
        score_range: tuple[float, float] | None = (0.0, 1.0),
        bins: int = _BINS,
        rounds: int = ROUNDS,
        size_edges: Sequence[float] = SIZE_EDGES,
    ) -> None:
        self._setup = PixelRanking(score_range=score_range, bins=bins, rounds=rounds, size_edges=size_edges).setup()
        self._images: dict[str, _Image] = {}
        self._pixels: dict[str, PixelRanking] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._images

    def __len__(self) -> int:
        return len(self._images)

    @property
    def products(self) -> tuple[str, ...]:
        """The products that came, in alphabetical order."""
        return tuple(sorted({image.product for image in self._images.values()}))

    def add(
        self,
        anomaly_map: ArrayLike | None,
        mask: ArrayLike | None,
        *,
        name: str,
        product: str = "",
        anomalous: bool | None = None,
        defect_type: str = "",
        image_score: float | None = None,
    ) -> None:
        """Add one image.

        Args:
            anomaly_map: Its map [H, W]; None where nobody drew the truth.
            mask: Its mask [H, W]; None where nobody drew the truth.
            name: Its name, which no other image has.
            product: What it shows.
            anomalous: Whether it is, by default whether the mask has a pixel.
            defect_type: Of an anomalous image, "" where nobody named it.
            image_score: Its score; None: there are no image metrics.

        Raises:
            UsageError: The name was there before, map and mask cannot be compared, a score is not finite, or a normal image
                has a mask or a type. Nothing is counted then.
        """
        if name in self._images:
            raise UsageError(f"{name}: this image was counted before")
        if mask is None and anomalous is None:
            raise UsageError(f"{name}: without a mask, say whether the image is anomalous")
        if mask is not None and anomaly_map is None:
            raise UsageError(f"{name}: a mask needs a map to be compared with")
        if image_score is not None and not np.isfinite(image_score):
            raise UsageError(f"{name}: the image score must be finite, not {image_score}")
        drawn = mask is not None and bool(np.asarray(mask).any())
        anomalous = drawn if anomalous is None else bool(anomalous)
        if not anomalous and defect_type:
            raise UsageError(f"{name}: a normal image has no defect type")
        if anomaly_map is not None and mask is not None:
            pixels = self._pixels.get(product) or PixelRanking(**self._setup)
            try:
                pixels.add(anomaly_map, mask, name=name, anomalous=anomalous, defect_type=defect_type)
            except UsageError as error:
                raise UsageError(f"{name}: {error}") from error
            self._pixels[product] = pixels
        score = None if image_score is None else float(image_score)
        self._images[name] = _Image(
            product, anomalous, defect_type, score, anomalous and mask is not None and not drawn
        )

    def merge(self, other: AnomalyAccumulator) -> None:
        """Add what another one counted of other images; the report is exactly that of one that got all of them.

        UsageError where an image is in both or the settings differ; nothing is added then.
        """
        both = sorted(self._images.keys() & other._images.keys())
        if both:
            raise UsageError(
                f"{both[0]}: this image is in both accumulators{f', as are {len(both) - 1} more' * (len(both) > 1)}"
            )
        if self._setup != other._setup:
            raise UsageError(f"accumulators with different settings cannot be merged: {self._setup} and {other._setup}")
        self._images |= other._images
        for product, theirs in other._pixels.items():
            self._pixels.setdefault(product, PixelRanking(**self._setup)).merge(theirs)

    def extremes(self, product: str) -> tuple[float, float] | None:
        """The lowest and the highest map score of a product, for `SteppedAupro` in a second pass; None without maps."""
        pixels = self._pixels.get(product)
        return None if pixels is None else (pixels.lowest, pixels.highest)

    def steps(self, product: str) -> Steps | None:
        """The table behind the pixel metrics of a product, to draw curves from; None without maps."""
        pixels = self._pixels.get(product)
        return None if pixels is None else pixels.steps()

    def report(
        self,
        *,
        limit: float = AUPRO_LIMIT,
        bounds: tuple[float, float] = AUPIMO_BOUNDS,
        confidence: float = 0.95,
    ) -> Report:
        """All metrics (`METRICS`) of all that was added.

        Args:
            limit: Of the false positive rate of AUPRO, in (0, 1].
            bounds: Of the false positive rate of AUPIMO.
            confidence: Of the intervals.
        """
        options = {"limit": limit, "bounds": bounds, "confidence": confidence}
        return report_of(
            [self._product(product, options) for product in self.products],
            settings={"aupro_limit": limit, "aupimo_bounds": list(bounds), "confidence": confidence, **self._setup},
            type_names=sorted({image.defect_type for image in self._images.values() if image.anomalous}),
            size_names=PixelRanking(**self._setup).size_names,
            confidence=confidence,
        )

    def _product(self, product: str, options: Mapping[str, Any]) -> ProductReport:
        images = [(name, self._images[name]) for name in sorted(self._images) if self._images[name].product == product]
        pixels = self._pixels.get(product)
        types = sorted({image.defect_type for _, image in images if image.anomalous})
        return ProductReport(
            row=self._row(product, [image for _, image in images], pixels, options),
            types=tuple(
                self._row(
                    name,
                    [image for _, image in images if not image.anomalous or image.defect_type == name],
                    pixels,
                    options,
                    defect_type=name,
                )
                for name in types
            ),
            sizes=tuple(self._size_row(size, images, pixels, options) for size in pixels.sizes) if pixels else (),
            vanished=tuple(name for name, image in images if image.vanished),
        )

    def _row(
        self,
        name: str,
        images: Sequence[_Image],
        pixels: PixelRanking | None,
        options: Mapping[str, Any],
        *,
        defect_type: str | None = None,
    ) -> Row:
        values = dict(_image_values(images, rounds=self._setup["rounds"], confidence=options["confidence"]))
        values |= _pixel_values(pixels, options, defect_type=defect_type)
        anomalous = sum(image.anomalous for image in images)
        regions = 0 if pixels is None else pixels.regions(defect_type=defect_type)
        return Row(name, len(images) - anomalous, anomalous, regions, {metric: values[metric] for metric in METRICS})

    @staticmethod
    def _size_row(
        size: str, images: Sequence[tuple[str, _Image]], pixels: PixelRanking, options: Mapping[str, Any]
    ) -> Row:
        values = {**_pixel_values(pixels, options, size=size)}
        normal = sum(not image.anomalous for _, image in images)
        return Row(size, normal, pixels.images_of_size(size), pixels.regions(size=size), values)

    def save(self, path: str | Path) -> None:
        """Put everything counted so far at `path`, to `load` and continue; OutputError where that cannot be."""
        rows = [[name, *vars(image).values()] for name, image in self._images.items()]
        arrays: Arrays = {}
        pixels = []
        for number, (product, ranking) in enumerate(self._pixels.items()):
            facts, of_product = ranking.state()
            pixels.append({"product": product, **facts})
            arrays |= nested(f"product{number}", of_product)
        save_counts(path, _KIND, {"setup": self._setup, "images": rows, "pixels": pixels}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> AnomalyAccumulator:
        """The accumulator that `save` put there; UsageError where the file holds none."""
        facts, arrays = load_counts(path, _KIND)
        accumulator = cls(**renamed(facts["setup"]))
        accumulator._images = {name: _Image(*rest) for name, *rest in facts["images"]}
        for number, pixels in enumerate(facts["pixels"]):
            accumulator._pixels[pixels["product"]] = PixelRanking.restored(pixels, under(f"product{number}", arrays))
        return accumulator


def _image_values(images: Sequence[_Image], *, rounds: int, confidence: float) -> Iterator[tuple[str, Value]]:
    scored = [image for image in images if image.score is not None]
    values: Mapping[str, Value]
    if len(scored) < len(images):
        reason = f"{len(images) - len(scored)} of {len(images)} images have no image score"
        values = dict.fromkeys(_IMAGE_NAMES, undefined(reason))
    else:
        scores = [image.score for image in scored]
        values = image_metrics(
            np.array(scores, float), [image.anomalous for image in scored], rounds=rounds, confidence=confidence
        )
    for name, value in values.items():
        yield _IMAGE_NAMES[name], value


def _pixel_values(
    pixels: PixelRanking | None, options: Mapping[str, Any], *, defect_type: str | None = None, size: str | None = None
) -> dict[str, Value]:
    if pixels is None:
        return dict.fromkeys(_PIXEL_NAMES.values(), undefined("there are no masks"))
    return {
        _PIXEL_NAMES[name]: value
        for name, value in pixels.metrics(**options, defect_type=defect_type, size=size).items()
    }
