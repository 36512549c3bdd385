"""What each part of FAPrompt is worth on the embedded backbone: the ablation table of docs/faprompt.md.

    python -m benchmarks.faprompt_ablation [--seeds 3] [--images 1000] [--epochs 2] [--data-root ../shared/data] [--only NAME]

`benchmarks.ablation` says what is measured, and how.
"""

from __future__ import annotations

from recipes.prompts import PLANS

from benchmarks.ablation import Variant, arguments, compare
from blemish.training import recipe_of

PAPERS_RATE = 1e-3
VARIANTS = {
    "as shipped": Variant(),
    "CAP without DAP": Variant({"prior": False}),
    "DAP without CAP": Variant({"abnormality_prompts": 1, "share_normal_tokens": False}),
    "K = 1": Variant({"abnormality_prompts": 1}),
    "K = 5": Variant({"abnormality_prompts": 5}),
    "K = 20": Variant({"abnormality_prompts": 20}),
    "M = 1": Variant({"patches": 1}),
    "M = 30": Variant({"patches": 30}),
    "selection released": Variant({"selection": "released"}),
    "the paper's rate": Variant(rate=PAPERS_RATE),
}


def main() -> None:
    plan = PLANS["faprompt"]
    settings = arguments("faprompt", __doc__, images=1000, epochs=plan.epochs)
    compare("faprompt", VARIANTS, settings, base=plan.options, rate=plan.rate or recipe_of("faprompt").rate)


if __name__ == "__main__":
    main()
