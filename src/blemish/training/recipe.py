"""How to train, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from blemish.errors import UnknownNameError, UsageError
from blemish.methods import method_class

__all__ = ["Precision", "Recipe", "recipe_of"]

Precision = Literal["fp32", "bf16", "fp16"]
Kept = Literal["float16", "bfloat16", "float32", "none"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a training does; the defaults are FAPrompt's (its authors use the prompts after epoch 7).

    `recipe_of` knows those of other methods. Adam with this rate and betas, no weight decay, no schedule. `seed` decides the
    first prompts, the order of the images in every epoch, and whatever a step draws. `precision` of the training step: fp32, or
    automatic mixed precision (fp16 on a GPU only). `cache_dtype` is what image features are kept in; "none" computes them anew
    in every step.
    """

    epochs: int = 7
    batch_size: int = 8
    rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    seed: int = 111
    precision: Precision = "fp32"
    cache_dtype: Kept = "float16"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError(
                f"a training has at least 1 epoch and batches of 1, not {self.epochs} and {self.batch_size}"
            )
        if not 0 < self.rate < float("inf"):
            raise UsageError(f"the learning rate must be above 0, not {self.rate:g}")
        if self.seed < 0:
            raise UsageError(f"the seed must not be negative, not {self.seed}")
        if self.precision not in get_args(Precision):
            raise UnknownNameError("precision", self.precision, get_args(Precision))
        if self.cache_dtype not in get_args(Kept):
            raise UnknownNameError("precision of kept features", self.cache_dtype, get_args(Kept))


def recipe_of(method: str, **given: Any) -> Recipe:
    """The recipe of a method's authors with the given figures in their places; UnknownNameError for an unknown method."""
    return Recipe(**{**method_class(method).recipe, **given})
