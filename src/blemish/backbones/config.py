"""The shapes of a backbone as frozen data, read from plain dictionaries (JSON, TOML)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from blemish.errors import UsageError
from blemish.io.codec import from_dict

__all__ = [
    "Activation",
    "BackboneConfig",
    "PreprocessConfig",
    "TextConfig",
    "VisionConfig",
    "at_input",
    "default_deep_text_blocks",
    "default_levels",
    "default_value_value_depth",
]

Activation = Literal["quick_gelu", "gelu"]
Stem = Literal["patches", "efficientnet-lite0"]

# Of a stem's coarsest map. Where it does not divide the side of the input, that map reaches beyond the image, and what it saw
# lies elsewhere than where the finer maps say.
STEM_STRIDES = {"efficientnet-lite0": 32}
LEAST_PATCHES = 7  # along a side of the input: the coarsest grid that any CLIP was trained with (ViT-B/32)
MOST_PATCHES = 168  # the work of attention grows with the fourth power of it


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Shape of an image tower; `position_grid` is the side of the stored grid of position embeddings.

    With several `members`, as many towers stand side by side (`backbones.ensemble`): width and heads are those of all together.
    """

    image_size: int
    width: int
    depth: int
    heads: int
    patch_size: int | None
    position_grid: int
    stem: Stem = "patches"
    mlp_ratio: float = 4.0
    activation: Activation = "quick_gelu"
    members: int = 1

    def __post_init__(self) -> None:
        _require_positive(self, "image_size", "width", "depth", "heads", "position_grid", "mlp_ratio", "members")
        _require_heads(self.width, self.heads)
        if self.heads % self.members:
            raise UsageError(
                f"VisionConfig: {self.heads} heads cannot be shared out evenly among {self.members} members"
            )
        if self.members > 1 and self.stem == "patches":
            raise UsageError("VisionConfig: several members need a stem whose trunk they can share, not 'patches'")
        if self.stem == "patches" and (self.patch_size is None or self.patch_size < 1):
            raise UsageError(f"VisionConfig: the stem 'patches' needs a positive patch_size, not {self.patch_size!r}")

    @property
    def member(self) -> VisionConfig:
        """The shape of one of the members."""
        return replace(self, width=self.width // self.members, heads=self.heads // self.members, members=1)

    @property
    def patch_px(self) -> int:
        """Side of a patch in pixels of the input."""
        return self.image_size // self.position_grid

    @property
    def input_step_px(self) -> int:
        """What the side of an input is a multiple of: the patch, or the coarsest stride of a convolutional stem."""
        return STEM_STRIDES.get(self.stem, self.patch_px)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Shape of a text tower."""

    width: int
    depth: int
    heads: int
    context_length: int = 77
    vocabulary_size: int = 49408
    mlp_ratio: float = 4.0
    activation: Activation = "quick_gelu"

    def __post_init__(self) -> None:
        _require_positive(self, "width", "depth", "heads", "context_length", "vocabulary_size", "mlp_ratio")
        _require_heads(self.width, self.heads)


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How a picture becomes the tower's input: resized straight to size x size (aspect not kept), then normalised."""

    size: int
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Literal["bicubic"] = "bicubic"

    def __post_init__(self) -> None:
        _require_positive(self, "size")
        if min(self.std) <= 0:
            raise UsageError(f"PreprocessConfig: std must be positive, not {self.std}")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """A backbone: its towers, its preprocessing, and where the methods act in it.

    `value_value_depth` counts the last image blocks that have the value-value path; `deep_text_blocks` are the first
    and the last text block (1-based, inclusive) that take deep tokens; `levels` are the image blocks (1-based) whose
    patch features the methods read.
    """

    name: str
    joint_width: int
    vision: VisionConfig
    text: TextConfig
    preprocess: PreprocessConfig
    value_value_depth: int
    deep_text_blocks: tuple[int, int]
    levels: tuple[int, ...]
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        _require_positive(self, "joint_width")
        if not 0 <= self.value_value_depth <= self.vision.depth:
            raise UsageError(
                f"backbone {self.name!r}: value_value_depth {self.value_value_depth} is outside 0..{self.vision.depth}"
            )
        first, last = self.deep_text_blocks
        if not 1 <= first <= last <= self.text.depth:
            raise UsageError(
                f"backbone {self.name!r}: deep_text_blocks {self.deep_text_blocks} are outside 1..{self.text.depth}"
            )
        if not self.levels or min(self.levels) < 1 or max(self.levels) > self.vision.depth:
            raise UsageError(f"backbone {self.name!r}: levels {self.levels} are outside 1..{self.vision.depth}")

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> BackboneConfig:
        """A backbone from plain data; where the methods act follows the rules below unless the data says it."""
        filled = dict(data)
        vision = from_dict(VisionConfig, _section(data, "vision"))
        text = from_dict(TextConfig, _section(data, "text"))
        filled.setdefault("preprocess", {"size": vision.image_size})
        filled.setdefault("value_value_depth", default_value_value_depth(vision.depth))
        filled.setdefault("deep_text_blocks", default_deep_text_blocks(text.depth))
        filled.setdefault("levels", default_levels(vision.depth))
        return from_dict(BackboneConfig, filled)


def at_input(config: BackboneConfig, input_px: int) -> BackboneConfig:
    """The backbone with images resized to input_px x input_px; UsageError where its image tower does not take that size.

    Its own size is always taken, whatever it is.
    """
    step, patch = config.vision.input_step_px, config.vision.patch_px
    least, most = -(-LEAST_PATCHES * patch // step) * step, MOST_PATCHES * patch // step * step
    if input_px != config.preprocess.size and (input_px % step or not least <= input_px <= most):
        below = input_px // step * step
        nearest = sorted({min(max(side, least), most) for side in (below, below + step)})
        why = "the coarsest stride of its stem" if config.vision.stem in STEM_STRIDES else "its patch"
        raise UsageError(
            f"an input of {input_px} px does not suit the backbone {config.name}: it takes multiples of {step} px ({why}) from "
            f"{least} to {most}; the nearest: {' and '.join(map(str, nearest))}"
        )
    return dataclasses.replace(config, preprocess=dataclasses.replace(config.preprocess, size=input_px))


def default_value_value_depth(depth: int) -> int:
    """Number of last image blocks with the value-value path: 19 of 24 (AnomalyCLIP, FAPrompt), in proportion."""
    return max(1, _round_half_up(19 / 24 * depth))


def default_deep_text_blocks(depth: int) -> tuple[int, int]:
    """First and last text block (1-based) that take deep tokens: 2 to 9 of 12 (FAPrompt), in proportion."""
    first = min(2, depth)
    return first, max(first, _round_half_up(0.75 * depth))


def default_levels(depth: int) -> tuple[int, ...]:
    """Image blocks (1-based) at the quarters: 6, 12, 18, 24 of 24."""
    return tuple(sorted({max(1, _round_half_up(quarter * depth / 4)) for quarter in (1, 2, 3, 4)}))


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    if not isinstance(section, Mapping):
        raise UsageError(f"BackboneConfig lacks the table {name!r}")
    return section


def _round_half_up(value: float) -> int:
    return int(value + 0.5)


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise UsageError(f"{type(config).__name__}: {name} must be positive, not {getattr(config, name)!r}")


def _require_heads(width: int, heads: int) -> None:
    if width % heads:
        raise UsageError(f"width {width} cannot be split into {heads} heads")
