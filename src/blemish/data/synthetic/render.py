"""Whole synthetic samples from a seed: scene, perhaps a defect, camera."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.synthetic.defects import DEFECTS, add_defect
from blemish.data.synthetic.fields import Random, soften
from blemish.data.synthetic.scenes import Pixels, good_scene

__all__ = ["NORMAL", "RENDERER_VERSION", "SyntheticSample", "render"]

NORMAL = "normal"
RENDERER_VERSION = 1  # goes up when a seed renders differently
_NORMAL_SHARE = 0.35


@dataclass(frozen=True)
class SyntheticSample:
    """A rendered picture: image uint8 [n, n, 3], mask bool [n, n], defect type (or "normal"), material, caption."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    defect_type: str
    material: str
    caption: str


def render(seed: int, *, size_px: int = 224, defect_type: str | None = None) -> SyntheticSample:
    """The sample of this seed, always the same. `defect_type` asks for a type (or "normal"); by default the seed decides.

    A defect that cannot be seen on the seed's scene is replaced by one of another type, never left invisible.
    """
    rng = np.random.default_rng(seed)
    scene = good_scene(size_px, rng)
    kinds = list(DEFECTS)
    if defect_type is None:
        defect_type = NORMAL if rng.random() < _NORMAL_SHARE else kinds[int(rng.integers(len(kinds)))]
    pixels, mask, found = np.clip(scene.pixels, 0, 1), np.zeros((size_px, size_px), bool), NORMAL
    if defect_type != NORMAL:
        others = [kind for kind in rng.permutation(kinds) if kind != defect_type]
        for kind in [defect_type, *others]:
            defective = add_defect(scene, rng, defect_type=str(kind))
            if defective is not None:
                pixels, mask, found = defective.pixels, defective.mask, defective.defect_type
                break
    image = _camera(pixels, rng)
    caption = f"a photo of {scene.material}" + ("" if found == NORMAL else f" with a {found}")
    return SyntheticSample(image, mask, found, scene.material, caption)


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
