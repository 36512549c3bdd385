"""Whether the images of a run judge each other without being asked: `--peers auto`, the default for a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.config import Config, ThresholdsConfig
from blemish.engines.base import SERIES_UP_TO, Engine
from blemish.images import FoundImage
from blemish.inspection.load import choose_vocabulary, load_engine
from blemish.inspection.references import draw_references, prepared_batches
from blemish.io.prefetch import in_chunks
from blemish.language import Vocabulary, general

__all__ = ["LEAST_SERIES", "LOOKED_AT", "Series", "Settled", "look_for_series", "settle_peers"]

LEAST_SERIES = 12  # images: of fewer, a series cannot be told from a mixture
LOOKED_AT = 24  # images that decide, drawn by lot
MOST_DEFECTIVE = 0.5  # share of them that the words alone may call NG: peers must be good for the most part


@dataclass(frozen=True)
class Settled:
    """What was decided of the peers."""

    config: Config  # with the folder in the place of "auto", or with no peers
    note: str = ""  # one line for the user, "" where there was nothing to decide


@dataclass(frozen=True)
class Series:
    """What some images of a folder or product say of all of them."""

    looked_at: int  # images
    unlike: float | None  # how unlike each other they are; None where too few were there, or the engine cannot say
    defective: float = 0.0  # share that the words alone call NG, 0..1; 0 where it was not asked

    @property
    def is_one(self) -> bool:
        """Whether they are a series of one product."""
        return self.unlike is not None and self.unlike <= SERIES_UP_TO

    @property
    def judges_itself(self) -> bool:
        """Whether the images are compared with each other: peers must be good for the most part."""
        return self.is_one and self.defective <= MOST_DEFECTIVE

    def __str__(self) -> str:
        if self.unlike is None:
            return "the images are too few to tell a series, or the engine cannot"
        beside = f"unlike each other by {self.unlike:.2f}"
        if not self.is_one:
            return f"the images are no series of one product ({beside}, more than {SERIES_UP_TO})"
        if not self.judges_itself:
            return (
                f"the images are a series of one product, but {self.defective:.0%} of {self.looked_at} look defective, and "
                "images judge each other only where most are good"
            )
        return (
            f"the images are a series of one product ({beside}, at most {SERIES_UP_TO}), so that they judge each other"
        )


def look_for_series(
    engine: Engine, pixels: NDArray[np.float32], *, threshold: float | None, vocabulary: Vocabulary, batch_size: int
) -> Series:
    """What prepared images [n, 3, S, S], drawn from many, say of all of them.

    Args:
        engine: Without references.
        pixels: `LOOKED_AT` of them, or fewer.
        threshold: Of the image score, above which the engine alone calls an image NG; None where its card has none.
        vocabulary: The types to look for.
        batch_size: Images that the engine gets at once.
    """
    count = len(pixels)
    unlike = engine.unlikeness(pixels) if count >= LEAST_SERIES // 2 else None
    if unlike is None or unlike > SERIES_UP_TO or threshold is None:
        return Series(count, unlike)
    texts = engine.encode_texts(vocabulary)
    scores = [
        scored.image_score
        for batch in in_chunks(pixels, batch_size)
        for scored in engine.score(engine.encode(np.asarray(batch)), texts)
    ]
    return Series(count, unlike, float(np.mean(np.array(scores) >= threshold)))


def settle_peers(config: Config, images: Sequence[str | Path], found: Sequence[FoundImage] | None) -> Settled:
    """The configuration of a run with its peers settled.

    Args:
        config: What was asked for. Peers that are named stay.
        images: What was given to inspect.
        found: The images in it; None where they are watched for.

    Returns:
        With the peers "auto", or unsaid: the folder itself where its images are a series of one product, else none. Nothing is
        compared without being asked where thresholds hold for images that are not: a calibration's or the user's.
    """
    asked = config.references.peers
    if asked not in (None, "auto", "off"):
        return Settled(config)
    without = config.with_settings(peers=None)
    if not _is_open(config) or found is None or len(found) < LEAST_SERIES or len(images) != 1:
        return Settled(without)
    loaded = load_engine(config.model, input_px=config.input.input_px)
    drawn = draw_references([image.path for image in found], most=LOOKED_AT)
    batches = prepared_batches(
        drawn,
        preprocess=loaded.engine.input,
        value_range=config.input.value_range,
        max_megapixels=config.input.max_megapixels,
        batch_size=config.model.batch_size,
    )
    pixels = [np.stack([image.pixels for image in batch]) for batch in batches]
    series = look_for_series(
        loaded.engine,
        np.concatenate(pixels) if pixels else np.zeros((0,), np.float32),
        threshold=loaded.thresholds.get("image"),
        vocabulary=choose_vocabulary(config.vocabulary) or general(),
        batch_size=config.model.batch_size,
    )
    if series.unlike is None:
        return Settled(without)
    if series.judges_itself:
        return Settled(config.with_settings(peers=str(images[0])), f"{series}; --peers off looks at each alone")
    if series.is_one:
        hint = f"each is looked at alone; if most are good, --peers {images[0]} compares them"
        return Settled(without, f"{series}: {hint}")
    return Settled(without, f"{series}: none is compared with others; --peers PATH does so all the same")


def _is_open(config: Config) -> bool:
    """Whether nothing in the configuration decides about peers, or holds for images without peers only."""
    references = config.references
    given = config.thresholds != ThresholdsConfig() or references.references or references.profile
    return references.peers != "off" and not given and config.input.tiles in (None, "off")
