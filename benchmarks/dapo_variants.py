"""Which reading of DAPO is best on the embedded backbone, and what its parts are worth: the tables of docs/dapo.md.

    python -m benchmarks.dapo_variants [--seeds 3] [--images 1000] [--epochs 2] [--data-root ../shared/data] [--only NAME]

`benchmarks.ablation` says what is measured, and how. Rows that differ in scoring alone share their trained prompts.
"""

from __future__ import annotations

from recipes.prompts import PLANS

from benchmarks.ablation import Variant, arguments, compare
from blemish.training import recipe_of

AUTHORS_RATE = 1e-3
RELEASED, CLEAN = {"variant": "released"}, {"variant": "clean"}
VARIANTS = {
    "released": Variant(RELEASED, rate=AUTHORS_RATE),
    "paper": Variant({"variant": "paper"}, rate=AUTHORS_RATE),
    "clean": Variant(CLEAN),
    "clean, the authors' rate": Variant(CLEAN, rate=AUTHORS_RATE),
    "clean, adapters start at random": Variant(CLEAN | {"adapter_start": "random"}, rate=AUTHORS_RATE),
    "released, adapters start as the projection": Variant(RELEASED | {"adapter_start": "projection"}),
    "clean, alpha = 0": Variant(CLEAN | {"alpha": 0.0}),
    "clean, no image tokens": Variant(CLEAN | {"image_tokens": 0}),
    "clean, no text tokens": Variant(CLEAN | {"text_tokens": 0}),
    "clean, scored with binary_map = average": Variant(CLEAN, {"binary_map": "average"}),
    "clean, scored with image_score = cls": Variant(CLEAN, {"image_score": "cls"}),
    "clean, scored with words = all": Variant(CLEAN, {"words": "all"}),
    "clean, scored with image_typing = cls": Variant(CLEAN, {"image_typing": "cls"}),
    "clean, scored with image_typing = both": Variant(CLEAN, {"image_typing": "both"}),
}


def main() -> None:
    plan = PLANS["dapo"]
    settings = arguments("dapo", __doc__, images=1000, epochs=plan.epochs)
    compare("dapo", VARIANTS, settings, base={}, rate=plan.rate or recipe_of("dapo").rate)


if __name__ == "__main__":
    main()
