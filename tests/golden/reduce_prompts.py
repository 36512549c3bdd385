"""Writes the reduced copies of AnomalyCLIP, AdaCLIP and CoOp: from the recorded features of the images on. Run by hand:

    python tests/golden/reduce_prompts.py

Text tower, learned parts, texts, scores, and of the trainings what needs no image: AnomalyCLIP's first step, CoOp's both, none of
AdaCLIP's, whose tokens stand in the image tower. Large maps are kept on every seventh row and column.
"""

from __future__ import annotations

import re

import numpy as np
from golden_sets import COARSE, FOLDER, GoldenSet, load
from numpy.typing import NDArray
from reduce import IMAGE_TOWER, Arrays, _numpy, _write

from blemish.backbones.tokenizer import tokenize

LEFT_OUT = {
    "anomalyclip": r"image_|tokens_|vv_tokens_|position_embedding|test|train\w*\.step1|(?!image_features)image",
    "adaclip": r"image$|mask$|position_embedding|tokens_layer|train|unrounded\.train|image_features$|unit\.fusion\.kmeans_i",
    "coop": r"image$",
}
KEPT = r"image_features"
LARGE = r"probability_map_layer|(unrounded\.)?(anomaly_map|map_before_smoothing)$"


def main() -> None:
    for kind, left_out in LEFT_OUT.items():
        for path in sorted(FOLDER.glob(f"{kind}_a.values.safetensors")):
            write(load(path), left_out)


def write(golden: GoldenSet, left_out: str) -> None:
    """One set without its image tower and these values."""
    values = {
        key: array
        for key, array in _numpy(golden.values).items()
        if not re.match(left_out, key) or (re.match(KEPT, key) and golden.name.startswith("anomalyclip"))
    }
    for key in [key for key in values if re.match(LARGE, key)]:
        values[key + COARSE] = values.pop(key)[..., 3::7, 3::7]
    clip: Arrays = {f"clip.{key}": array for key, array in _numpy(golden.clip).items()}
    width = int(golden.clip["visual.class_embedding"].shape[0])
    halves = golden.name.startswith("coop")  # whose frozen weights are exact in float16
    clip = {
        key: array.astype(np.float16) if halves or key == "clip.token_embedding.weight" else array
        for key, array in clip.items()
        if not key.startswith(IMAGE_TOWER)
    }
    _write(
        golden.name,
        clip | _numpy(golden.weights),
        values,
        used_tokens(golden),
        golden.metadata | {"vision_width": width},
    )


def used_tokens(golden: GoldenSet) -> NDArray[np.int64]:
    """The token ids that any prompt of the set has."""
    recorded = [
        value.numpy().ravel() for key, value in golden.values.items() if key.rpartition(".")[2].endswith("tokens")
    ]
    names = [name for key, found in golden.metadata.items() if key.endswith("class_names") for name in found]
    words = ["X object. damaged object.", str(golden.metadata.get("start_words", "")), "a photo of a"]
    words += [name.replace("_", " ") + "." for name in names] + names
    return np.unique(np.concatenate([*recorded, tokenize(words).ravel()]))


if __name__ == "__main__":
    main()
