"""Several pieces of one product, as a camera over a line sees them: the same scene, each piece in its own place, turn and light.

Of a sheet that fills the image each piece is another part. The last pieces have defects, of few types as a product has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from blemish.errors import UsageError
from blemish.synthesis.benign import camera
from blemish.synthesis.captions import caption
from blemish.synthesis.damage import KINDS
from blemish.synthesis.fields import Random
from blemish.synthesis.render import NORMAL, RENDERER_VERSION, SyntheticSample, visible_defect
from blemish.synthesis.scenery import good_subject
from blemish.synthesis.shapes import Real
from blemish.synthesis.subjects import Subject

__all__ = ["render_series"]

ALIKE, LOOSE = 0.02, 0.06  # how far pieces lie from the middle, in sides of the image, and turned, in radians
TYPES = 3  # of defects that a product has
DIMMED = 0.04  # standard deviation of light between pieces
MOST_CUT = 8  # pixels from the border within which a part is no whole one any more


def render_series(
    seed: int, *, pieces: int = 24, defective: int = 8, size_px: int = 224
) -> tuple[SyntheticSample, ...]:
    """The pieces of the product of this seed, always the same; the last `defective` ones have a defect each.

    UsageError where more pieces are to be defective than there are.
    """
    if not 0 <= defective <= pieces or pieces < 1:
        raise UsageError(f"of {pieces} pieces, {defective} cannot have defects")
    rng = np.random.default_rng((RENDERER_VERSION, seed, 5))
    subject = good_subject(size_px, np.random.default_rng((RENDERER_VERSION, seed)))
    if subject.fills_image:  # a larger sheet of the same, of which pieces are parts
        subject = good_subject(2 * size_px, np.random.default_rng((RENDERER_VERSION, seed)))
    turned, loose = bool(rng.random() < 0.5), float(rng.choice([ALIKE, LOOSE]))
    types = [str(kind) for kind in rng.choice(list(KINDS), TYPES, replace=False)]
    made = []
    for number in range(pieces):
        own = np.random.default_rng((RENDERER_VERSION, seed, 6, number))
        piece = _piece(subject, _pose(subject, own, size_px, turned=turned, loose=loose), own)
        wanted = [*own.permutation(types), *own.permutation(list(KINDS))] if number >= pieces - defective else []
        drawn = visible_defect(piece, own, wanted) if wanted else None
        made.append(
            SyntheticSample(
                camera(piece.pixels if drawn is None else drawn.pixels, own, mild=True),
                np.zeros((size_px, size_px), bool) if drawn is None else drawn.mask,
                NORMAL if drawn is None else drawn.defect_type,
                subject.material,
                caption(subject.material, drawn),
                0.0 if drawn is None else drawn.contrast,
            )
        )
    return tuple(made)


@dataclass(frozen=True)
class _Pose:
    """Which part of a scene a piece shows: its middle x, y in pixels there, its turn (radians), its scale, its size in pixels."""

    middle: tuple[float, float]
    angle: float
    scale: float
    size_px: int

    @property
    def matrix(self) -> Real:
        """From x, y about the middle of the piece to x, y about that of its part of the scene."""
        cos, sin = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        return np.array([[cos, -sin], [sin, cos]])

    def transformed(self, field: Real) -> Real:
        """A field [n, n] of the scene as the piece shows it, [size, size]; mirrored beyond the scene's border."""
        flipped = self.matrix[::-1, ::-1]  # rows first
        half = np.array([self.size_px / 2 - 0.5] * 2)
        offset = np.array(self.middle[::-1]) - 0.5 - flipped @ half
        shape = (self.size_px, self.size_px)
        return ndimage.affine_transform(np.asarray(field, np.float32), flipped, offset, shape, order=1, mode="mirror")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the scene is in the piece."""
        inside = np.linalg.solve(self.matrix, np.array([x, y]) - self.middle) + self.size_px / 2
        return float(inside[0]), float(inside[1])


def _pose(subject: Subject, rng: Random, size_px: int, *, turned: bool, loose: float) -> _Pose:
    angle = rng.normal(0, loose) + (np.pi / 2 * rng.integers(4) if turned else 0.0)
    side, half = subject.shape[0], size_px / 2
    middle = rng.uniform(half, side - half, 2) if side > size_px else side / 2 + rng.normal(0, loose * size_px, 2)
    return _Pose((float(middle[0]), float(middle[1])), float(angle), float(np.exp(rng.normal(0, loose / 2))), size_px)


def _piece(subject: Subject, pose: _Pose, rng: Random) -> Subject:
    def coloured(pixels: Real) -> Real:
        return np.stack([pose.transformed(pixels[..., channel]) for channel in range(3)], -1)

    across = np.linspace(-0.5, 0.5, pose.size_px, dtype=np.float32)[None, :, None]
    light = 1 + rng.normal(0, DIMMED) + rng.normal(0, DIMMED) * across
    parts = []
    for x, y, radius in subject.parts:
        at = pose.place(x, y)
        if all(MOST_CUT < axis < pose.size_px - MOST_CUT for axis in at):
            parts.append((*at, radius * pose.scale))
    return replace(
        subject,
        pixels=np.clip(coloured(subject.pixels) * light, 0, 1).astype(np.float32),
        foreground=np.clip(pose.transformed(subject.foreground), 0, 1),
        behind=np.clip(coloured(subject.behind), 0, 1),
        light=subject.light - pose.angle,
        parts=tuple(parts),
    )
