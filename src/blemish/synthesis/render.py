"""Whole synthetic samples from a seed: scene, perhaps a defect, camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.errors import UnknownNameError
from blemish.synthesis.benign import camera
from blemish.synthesis.captions import caption
from blemish.synthesis.damage import KINDS
from blemish.synthesis.fields import Random
from blemish.synthesis.placing import Drawn, draw_defect
from blemish.synthesis.scenery import good_subject
from blemish.synthesis.spots import luminance
from blemish.synthesis.subjects import Subject

__all__ = ["NORMAL", "RENDERER_VERSION", "SyntheticSample", "defect_types", "render", "visible_defect"]

NORMAL = "normal"
RENDERER_VERSION = 3  # goes up when a seed renders differently: digests, manifests and cards carry it
_NORMAL_SHARE = 0.35
# Mean change inside the mask. Most defects can be seen; what is at the edge of sight teaches little and is asked less often.
_PLAIN, _STRONGEST, _FAINT, _FAINT_SHARE = 0.07, 0.45, 0.3, 0.15
# What is broad must stand out from the tones that the thing has itself, the rest from its texture.
_BROAD = ("dent", "stain", "discolouration", "burn", "corrosion", "uneven")
_BLOCK, _FEW = 28, 4  # blocks a side, about a place's size; fewer on the thing say nothing


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


def render(
    seed: int, *, size_px: int = 224, defect_type: str | None = None, photos: Sequence[NDArray[np.uint8]] = ()
) -> SyntheticSample:
    """The sample of this seed, always the same. `defect_type` asks for a type (or "normal"); by default the seed decides.

    photos: pictures of materials [H, W, 3]; with any, half of the materials are cut from them, and the sample depends on them.
    A defect that cannot be drawn visibly on the seed's scene is replaced by one of another type, never left invisible.
    """
    kinds = list(KINDS)
    if defect_type is not None and defect_type not in (NORMAL, *kinds):
        raise UnknownNameError("defect type", defect_type, (NORMAL, *kinds))
    rng = np.random.default_rng((RENDERER_VERSION, seed))
    subject = good_subject(size_px, rng, photos=photos)
    if defect_type is None:
        defect_type = NORMAL if rng.random() < _NORMAL_SHARE else kinds[int(rng.integers(len(kinds)))]
    drawn = None
    if defect_type != NORMAL:
        others = [kind for kind in rng.permutation(kinds) if kind != defect_type]
        drawn = visible_defect(subject, rng, [defect_type, *others])
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


def visible_defect(subject: Subject, rng: Random, types: Iterable[str]) -> Drawn | None:
    """A defect of the first of these types that the subject can show: mostly one to be seen well, else a faint one."""
    faint = rng.random() < _FAINT_SHARE
    for kind in types:
        plain = _plain(subject, kind)
        contrast = (_FAINT * plain, plain) if faint else (plain, _STRONGEST)
        drawn = draw_defect(subject, rng, defect_type=str(kind), contrast=contrast)
        if drawn is not None:
            return drawn
    return None


def _plain(subject: Subject, kind: str) -> float:
    """The contrast from which a defect of this type can be seen on the thing, in 0..1: beyond what differs on it anyhow.

    Texture is how much brightness differs within its blocks, tones how much between them.
    """
    everything = (0, 0, subject.shape[1], subject.shape[0])
    grey, thing = luminance(subject.crop(everything, 8 * _BLOCK)), subject.crop_foreground(everything, 8 * _BLOCK)
    inside = thing.reshape(_BLOCK, 8, _BLOCK, 8).min((1, 3)) > 0.9
    if inside.sum() < _FEW:
        return _PLAIN
    blocks = grey.reshape(_BLOCK, 8, _BLOCK, 8).swapaxes(1, 2)[inside]  # [k, 8, 8]
    texture, tones = float(np.median(blocks.std((1, 2)))), float(blocks.mean((1, 2)).std())
    return min(max(_PLAIN, texture, tones if kind in _BROAD else 0.0), 0.5 * _STRONGEST)
