"""Whether the images of a run judge each other without being asked: `--peers auto`, the default for a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.config import Config, ThresholdsConfig
from blemish.engines.base import SERIES_UP_TO, LoadedEngine
from blemish.images import FoundImage
from blemish.inspection.load import choose_vocabulary, load_engine
from blemish.inspection.references import draw_references, prepared_batches
from blemish.io.prefetch import in_chunks
from blemish.language import general

__all__ = ["LEAST_SERIES", "Settled", "settle_peers"]

LEAST_SERIES = 12  # images: of fewer, a series cannot be told from a mixture
LOOKED_AT = 24  # images that decide, drawn by lot
MOST_DEFECTIVE = 0.5  # share of them that the words alone may call NG: peers must be good for the most part


@dataclass(frozen=True)
class Settled:
    """What was decided of the peers."""

    config: Config  # with the folder in the place of "auto", or with no peers
    note: str = ""  # one line for the user, "" where there was nothing to decide


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
    engine = loaded.engine
    drawn = draw_references([image.path for image in found], most=LOOKED_AT)
    batches = prepared_batches(
        drawn,
        preprocess=engine.input,
        value_range=config.input.value_range,
        max_megapixels=config.input.max_megapixels,
        batch_size=config.model.batch_size,
    )
    pixels = [np.stack([image.pixels for image in batch]) for batch in batches]
    looked_at = np.concatenate(pixels) if pixels else np.zeros((0,), np.float32)
    unlike = engine.unlikeness(looked_at) if len(looked_at) >= LEAST_SERIES // 2 else None
    if unlike is None:
        return Settled(without)
    if unlike > SERIES_UP_TO:
        return Settled(
            without,
            f"the images are no series of one product (unlike each other by {unlike:.2f}, more than {SERIES_UP_TO}): none is "
            "compared with others; --peers PATH does so all the same",
        )
    defective = _share_defective(loaded, looked_at, config)
    if defective > MOST_DEFECTIVE:
        return Settled(
            without,
            f"the images are a series of one product, but {defective:.0%} of {len(looked_at)} look defective, and images judge "
            f"each other only where most are good: each is looked at alone; if most are good, --peers {images[0]} compares them",
        )
    return Settled(
        config.with_settings(peers=str(images[0])),
        f"the images are a series of one product (unlike each other by {unlike:.2f}, at most {SERIES_UP_TO}), so that they judge "
        "each other; --peers off looks at each alone",
    )


def _is_open(config: Config) -> bool:
    """Whether nothing in the configuration decides about peers, or holds for images without peers only."""
    references = config.references
    given = config.thresholds != ThresholdsConfig() or references.references or references.profile
    return references.peers != "off" and not given and config.input.tiles in (None, "off")


def _share_defective(loaded: LoadedEngine, pixels: NDArray[np.float32], config: Config) -> float:
    """The share of prepared images [n, 3, S, S] that the model alone calls NG, by its card's threshold; 0 where it has none."""
    if "image" not in loaded.thresholds:
        return 0.0
    engine = loaded.engine
    texts = engine.encode_texts(choose_vocabulary(config.vocabulary) or general())
    scores = [
        scored.image_score
        for batch in in_chunks(pixels, config.model.batch_size)
        for scored in engine.score(engine.encode(np.asarray(batch)), texts)
    ]
    return float(np.mean(np.array(scores) >= loaded.thresholds["image"]))
