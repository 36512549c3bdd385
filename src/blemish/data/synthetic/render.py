"""Whole synthetic samples from a seed: scene, perhaps a defect, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.benign import camera
from blemish.data.synthetic.captions import caption
from blemish.data.synthetic.damage import KINDS
from blemish.data.synthetic.placing import draw
from blemish.data.synthetic.scenery import good_subject
from blemish.errors import UnknownNameError

__all__ = ["NORMAL", "RENDERER_VERSION", "SyntheticSample", "defect_types", "render"]

NORMAL = "normal"
RENDERER_VERSION = 2  # goes up when a seed renders differently: digests, manifests and cards carry it
_NORMAL_SHARE = 0.35
# Mean change inside the mask. Most defects can be seen; what is at the edge of sight teaches little and is asked less often.
_PLAIN, _FAINT, _FAINT_SHARE = (0.07, 0.45), (0.02, 0.07), 0.15


@dataclass(frozen=True)
class SyntheticSample:
    """A rendered picture: image uint8 [n, n, 3], mask bool [n, n], defect type (or "normal"), material, caption.

    contrast: mean absolute change inside the mask before the camera, in 0..1; 0 for normal ones.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    defect_type: str
    material: str
    caption: str
    contrast: float = 0.0


def defect_types() -> tuple[str, ...]:
    """The types that are drawn, in the order of the built-in vocabulary."""
    return tuple(KINDS)


def render(seed: int, *, size_px: int = 224, defect_type: str | None = None) -> SyntheticSample:
    """The sample of this seed, always the same. `defect_type` asks for a type (or "normal"); by default the seed decides.

    A defect that cannot be drawn visibly on the seed's scene is replaced by one of another type, never left invisible.
    """
    kinds = list(KINDS)
    if defect_type is not None and defect_type not in (NORMAL, *kinds):
        raise UnknownNameError("defect type", defect_type, (NORMAL, *kinds))
    rng = np.random.default_rng((RENDERER_VERSION, seed))
    subject = good_subject(size_px, rng)
    if defect_type is None:
        defect_type = NORMAL if rng.random() < _NORMAL_SHARE else kinds[int(rng.integers(len(kinds)))]
    drawn = None
    if defect_type != NORMAL:
        others = [kind for kind in rng.permutation(kinds) if kind != defect_type]
        contrast = _FAINT if rng.random() < _FAINT_SHARE else _PLAIN
        for kind in [defect_type, *others]:
            drawn = draw(subject, rng, defect_type=str(kind), contrast=contrast)
            if drawn is not None:
                break
    pixels = subject.pixels if drawn is None else drawn.pixels
    mask = np.zeros((size_px, size_px), bool) if drawn is None else drawn.mask
    return SyntheticSample(
        camera(pixels, rng),
        mask,
        NORMAL if drawn is None else drawn.defect_type,
        subject.material,
        caption(subject.material, drawn),
        0.0 if drawn is None else drawn.contrast,
    )
