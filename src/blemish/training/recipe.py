"""How to train, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from blemish.errors import UnknownNameError, UsageError
from blemish.methods import method_class

__all__ = ["MosaicLabel", "Optimiser", "Precision", "Recipe", "Schedule", "recipe_of"]

Precision = Literal["fp32", "bf16", "fp16"]
Kept = Literal["float16", "bfloat16", "float32", "none"]
Optimiser = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "warm-up and cosine"]
MosaicLabel = Literal["shown", "replaced"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training does; the defaults are FAPrompt's (its authors use the prompts after epoch 7), see `recipe_of`."""

    epochs: int = 7
    batch_size: int = 8
    optimiser: Optimiser = "adam"
    rate: float = 1e-3  # of learning
    betas: tuple[float, float] = (0.5, 0.999)  # of Adam and AdamW
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0
    schedule: Schedule = "constant"  # of the rate, see `optimisers.rate_of_epoch`
    seed: int = 111  # decides the first prompts, the order of the images in every epoch, and whatever a step draws
    precision: Precision = "fp32"  # of the training step, or automatic mixed precision (fp16 on a GPU only)
    cache_dtype: Kept = "float16"  # what image features are kept in; "none" computes them anew in every step
    mosaics: float = (
        0.0  # share of the images that become mosaics, see `mosaics`; 0.2 in APRIL-GAN's release on MVTec AD
    )
    # whether a mosaic is anomalous: as what it "shows", or as the image that it "replaced" (AdaCLIP's release, by a slip)
    mosaic_label: MosaicLabel = "shown"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError(
                f"a training has at least 1 epoch and batches of 1, not {self.epochs} and {self.batch_size}"
            )
        if not 0 < self.rate < float("inf"):
            raise UsageError(f"the learning rate must be above 0, not {self.rate:g}")
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < float("inf"):
            raise UsageError(
                f"momentum lies in 0..1 without 1, and weight decay is not negative, not {self.momentum:g} and "
                f"{self.weight_decay:g}"
            )
        if self.momentum and self.optimiser != "sgd":
            raise UsageError(f"momentum belongs to the optimiser sgd, not to {self.optimiser}")
        if not 0 <= self.mosaics <= 1:
            raise UsageError(f"the share of mosaics lies in 0..1, not {self.mosaics:g}")
        if self.mosaics and self.cache_dtype != "none":
            raise UsageError(
                "mosaics are other images in every epoch, whose features cannot be kept: --cache-dtype none"
            )
        if self.seed < 0:
            raise UsageError(f"the seed must not be negative, not {self.seed}")
        for kind, value, known in (
            ("optimiser", self.optimiser, Optimiser),
            ("schedule", self.schedule, Schedule),
            ("precision", self.precision, Precision),
            ("precision of kept features", self.cache_dtype, Kept),
            ("label of mosaics", self.mosaic_label, MosaicLabel),
        ):
            if value not in get_args(known):
                raise UnknownNameError(kind, value, get_args(known))


def recipe_of(method: str, **given: Any) -> Recipe:
    """The recipe of a method's authors with the given figures in their places; UnknownNameError for an unknown method."""
    return Recipe(**{**method_class(method).recipe, **given})
