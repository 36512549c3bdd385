"""The product's name in prompts that speak of it, as those of WinCLIP and APRIL-GAN do."""

from __future__ import annotations

from typing import Literal

__all__ = ["NO_PRODUCT", "Underscores", "product_words"]

NO_PRODUCT = "object"  # what a product is called whose name nobody gave
Underscores = Literal["keep", "blank"]


def product_words(name: str, *, underscores: Underscores) -> str:
    """A product's name as a prompt has it.

    Args:
        name: As the data set calls it; "" for unknown.
        underscores: "keep", as every release does ("metal_nut" becomes the tokens "metal", "_", "nut"), or "blank".
    """
    words = name.replace("_", " ") if underscores == "blank" else name
    return " ".join(words.split()) or NO_PRODUCT
