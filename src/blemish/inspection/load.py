"""From names to something that works: a backbone, a method with its trained prompts, thresholds, an inspector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemish.calibration import Calibration, Lines, read_calibration
from blemish.errors import UsageError
from blemish.images import DEFAULT_MEGAPIXELS, RangeGiven, ValueRanges
from blemish.inspection.inspector import Inspector, device_of
from blemish.inspection.masks import Interest
from blemish.inspection.references import Peers, among
from blemish.inspection.tiling import check_tiles
from blemish.language import Vocabulary, load_vocabulary, parse_defects
from blemish.models.load import load_method
from blemish.results import Origin, Thresholds

__all__ = ["choose_thresholds", "load"]


def load(
    backbone: str = "embedded",
    *,
    method: str | None = None,
    prompts: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
    defects: str | Sequence[str] | None = None,
    vocabulary: str | Path | None = None,
    product: str | None = None,
    device: str = "cpu",
    threshold: float | None = None,
    pixel_threshold: float | None = None,
    calibration: str | Path | None = None,
    tiles: str | int | None = None,
    roi: str | Path | None = None,
    ignore: str | Path | None = None,
    min_area_px: float | None = None,
    mm_per_px: float | None = None,
    input_px: int | None = None,
    batch_size: int = 8,
    value_range: RangeGiven | None = None,
    max_megapixels: float = DEFAULT_MEGAPIXELS,
    peers: Peers | None = None,
) -> Inspector:
    """An inspector with a backbone (a name that `blemish models list` shows, or a path) and a method, ready to use.

    `method`, `prompts`, `options` and `force` are those of `load_method`. `defects` names the types to tell apart, as
    "scratch, hole" or a sequence; `vocabulary` is a file of types with their words (docs/dapo.md), of which `product` chooses
    those of one product; without either it is the built-in vocabulary. Unknown names raise UnknownNameError.

    The thresholds (0..1) come from the card and are marked "uncalibrated", unless they are given or come from `calibration`,
    the file of `blemish calibrate`; see `choose_thresholds`. One made with another model or input size, with other tiles or
    masks or, where it matters, another vocabulary is refused with a UsageError; `tiles`, `value_range` and `input_px` are the
    calibration's by default.

    `roi` and `ignore` are masks of the pixels that count and of those that do not: a file for all images, or a folder with
    one an image, of its name. `tiles`, `min_area_px` and `mm_per_px` are those of `Inspector`. `input_px` is that of
    `load_method`: more shows smaller defects, at a cost that grows with its square and more.

    `peers` are images of the same product, unlabelled and most of them good: a file, a folder, a pattern, or the images
    themselves. Every image is compared with them, too (docs/peers.md); not together with `tiles`.
    """
    types = _vocabulary(defects, vocabulary, product)
    calibrated = None if calibration is None else read_calibration(calibration)
    interest = Interest.open(roi, ignore)
    value_range = _value_range(value_range, calibrated)
    device_of(device)
    # a calibration of another backbone says nothing about the input; it is refused later
    known = {} if calibrated is None else {calibrated.setup.model.backbone: calibrated.setup.input_px}
    loaded = load_method(
        backbone,
        method=method,
        prompts=prompts,
        options=options,
        force=force,
        input_px=known if input_px is None else input_px,
    )
    tiles = check_tiles(tiles if tiles is not None else "off" if calibrated is None else calibrated.setup.tiles)
    used, card = loaded.method, loaded.thresholds
    if peers is not None:
        if tiles != "off":
            raise UsageError("peers are compared with whole images, not with tiles: leave one of them out")
        used, value_range = among(
            loaded.method.to(device),
            peers,
            value_range=value_range,
            max_megapixels=max_megapixels,
            batch_size=batch_size,
        )
        card = loaded.with_peers or card
    thresholds = choose_thresholds(
        card,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        calibration=None if calibrated is None else calibrated.lines,
        only_map=interest is not None,
    )
    config = used.backbone.config
    return Inspector(
        used,
        preprocess=config.preprocess,
        thresholds=thresholds,
        vocabulary=types,
        backbone=config.name,
        prompts=loaded.prompts,
        min_lead=loaded.min_lead,
        device=device,
        batch_size=batch_size,
        min_area_px=min_area_px,
        mm_per_px=mm_per_px,
        tiles=tiles,
        interest=interest,
        calibration=calibrated,
        value_range=value_range,
        max_megapixels=max_megapixels,
    )


def choose_thresholds(
    card: Mapping[str, float],
    *,
    threshold: float | None = None,
    pixel_threshold: float | None = None,
    calibration: Lines | None = None,
    only_map: bool = False,
) -> Thresholds:
    """The thresholds of a card for one method, overridden by a calibration's, and those by the user's where given.

    The user's image threshold alone makes the verdict NG; the review threshold stays where it lies below it, else there is no
    review band. A card without thresholds counts as 0.5 and no review band. With `only_map` the image score is the map's peak,
    so that the card's pixel threshold serves both.
    """
    image, review, pixel = card.get("image", 0.5), card.get("review"), card.get("pixel", 0.5)
    origin: Origin = "uncalibrated"
    pixel_origin: Origin = "uncalibrated"
    if only_map:
        image, review = pixel if pixel_threshold is None else pixel_threshold, None
    if calibration is not None:
        image, review, origin = calibration.image, calibration.review, "calibrated"
        if calibration.pixel is not None:
            pixel, pixel_origin = calibration.pixel, "calibrated"
    if threshold is not None:
        image, origin = threshold, "user"
    if pixel_threshold is not None:
        pixel, pixel_origin = pixel_threshold, "user"
    return Thresholds(
        image=float(image),
        review=float(review) if review is not None and review < image else None,
        pixel=float(pixel),
        calibration=origin,
        pixel_calibration=pixel_origin,
    )


def _vocabulary(defects: str | Sequence[str] | None, file: str | Path | None, product: str | None) -> Vocabulary | None:
    """The vocabulary of these names or of this file; None for the built-in one."""
    if defects is not None and file is not None:
        raise UsageError("name the defects or give a vocabulary file, not both")
    if file is None and product is not None:
        raise UsageError(f"a product ({product}) is one of a vocabulary file; give that, too")
    if file is not None:
        return load_vocabulary(file, product=product)
    return None if defects is None else parse_defects(defects)


def _value_range(given: RangeGiven | None, calibration: Calibration | None) -> RangeGiven | None:
    """The range that is given, else the calibration's."""
    known = None if calibration is None else calibration.setup.value_range
    if given is not None and known is not None and not ValueRanges(given).is_fixed:
        raise UsageError(
            f"percentiles ({given[0]}:{given[1]}) are found anew in every batch, but the calibration holds for "
            f"{known[0]:g}:{known[1]:g}: leave --range out"
        )
    return known if given is None else given
