"""Whole synthetic samples from a seed: scene, perhaps a defect, camera.

There are two renderers. Version 1 is what the shipped model was trained with, and the default until a training chooses the other;
version 2 has more of everything. A seed renders the same picture for ever under its version.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.synthetic.benign import camera
from blemish.data.synthetic.captions import caption
from blemish.data.synthetic.damage import KINDS
from blemish.data.synthetic.defects import DEFECTS, add_defect
from blemish.data.synthetic.fields import Random, soften
from blemish.data.synthetic.placing import CONTRASTS, draw
from blemish.data.synthetic.scenery import good_subject
from blemish.data.synthetic.scenes import Pixels, good_scene
from blemish.errors import UnknownNameError, UsageError

__all__ = ["NORMAL", "RENDERER_VERSION", "RENDERER_VERSIONS", "SyntheticSample", "defect_types", "render"]

NORMAL = "normal"
RENDERER_VERSION = 1  # the default
RENDERER_VERSIONS = (1, 2)  # a new one is added when a seed renders differently
_NORMAL_SHARE = 0.35


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


def defect_types(version: int = RENDERER_VERSION) -> tuple[str, ...]:
    """The types that a renderer draws, those of version 1 first in every version. UsageError for a version that is none."""
    if version not in RENDERER_VERSIONS:
        raise UsageError(f"renderer version {version} is none of {', '.join(map(str, RENDERER_VERSIONS))}")
    return tuple(DEFECTS if version == 1 else KINDS)


def render(
    seed: int, *, size_px: int = 224, defect_type: str | None = None, version: int = RENDERER_VERSION
) -> SyntheticSample:
    """The sample of this seed, always the same. `defect_type` asks for a type (or "normal"); by default the seed decides.

    A defect that cannot be drawn visibly on the seed's scene is replaced by one of another type, never left invisible.
    """
    kinds = defect_types(version)
    if defect_type is not None and defect_type not in (NORMAL, *kinds):
        raise UnknownNameError("defect type", defect_type, (NORMAL, *kinds))
    return _render_1(seed, size_px, defect_type) if version == 1 else _render_2(seed, size_px, defect_type)


def _render_1(seed: int, size_px: int, defect_type: str | None) -> SyntheticSample:
    rng = np.random.default_rng(seed)
    scene = good_scene(size_px, rng)
    kinds = list(DEFECTS)
    if defect_type is None:
        defect_type = NORMAL if rng.random() < _NORMAL_SHARE else kinds[int(rng.integers(len(kinds)))]
    pixels, mask, found, contrast = np.clip(scene.pixels, 0, 1), np.zeros((size_px, size_px), bool), NORMAL, 0.0
    if defect_type != NORMAL:
        others = [kind for kind in rng.permutation(kinds) if kind != defect_type]
        for kind in [defect_type, *others]:
            defective = add_defect(scene, rng, defect_type=str(kind))
            if defective is not None:
                pixels, mask, found = defective.pixels, defective.mask, defective.defect_type
                contrast = defective.contrast
                break
    image = _camera(pixels, rng)
    said = f"a photo of {scene.material}" + ("" if found == NORMAL else f" with a {found}")
    return SyntheticSample(image, mask, found, scene.material, said, contrast)


def _render_2(seed: int, size_px: int, defect_type: str | None) -> SyntheticSample:
    rng = np.random.default_rng((2, seed))
    subject = good_subject(size_px, rng)
    kinds = list(KINDS)
    if defect_type is None:
        defect_type = NORMAL if rng.random() < _NORMAL_SHARE else kinds[int(rng.integers(len(kinds)))]
    drawn = None
    if defect_type != NORMAL:
        others = [kind for kind in rng.permutation(kinds) if kind != defect_type]
        for kind in [defect_type, *others]:
            drawn = draw(subject, rng, defect_type=str(kind), contrast=CONTRASTS)
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


def _camera(pixels: Pixels, rng: Random) -> NDArray[np.uint8]:
    """Tone, blur, noise and compression as cameras and files add them; the same for good and bad images."""
    if rng.random() < 0.3:
        pixels = pixels ** rng.uniform(0.7, 1.4)
    if rng.random() < 0.35:
        pixels = np.clip((pixels - 0.5) * rng.uniform(0.6, 1.5) + 0.5 + rng.uniform(-0.12, 0.12), 0, 1)
    if rng.random() < 0.3:
        sigma = float(rng.uniform(0.3, 1.2))
        pixels = np.stack([soften(pixels[..., channel], sigma) for channel in range(3)], -1)
    grain = rng.uniform(0, 0.03) if rng.random() < 0.8 else 0.0
    if rng.random() < 0.5:  # the same grain in all channels, as a mono sensor gives
        pixels = pixels + rng.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None] * grain
    else:
        pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * grain
    if rng.random() < 0.25:
        pixels = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    image = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.25:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(rng.integers(50, 95)))
        image = np.asarray(Image.open(buffer).convert("RGB"))
    return image
