"""Judges the embedded model by docs/model-judge.md: `python -m recipes.real.judge --images FOLDER --pairs FOLDER`.

The prompt ensemble with its default options scores each judged image at one or more input sizes. "default": the
backbone's own size. "320", "448": the whole image at so many pixels. "tiles": four quarters of the image at 448 px, each
an input of 224 px. Two with a plus, as "default+448": the mean of the log odds of both. `--keep FOLDER` keeps the scores and
maps of each single input, and takes them from there in a later run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blemish import models
from blemish.backbones.model import Clip
from blemish.backbones.preprocess import to_array
from blemish.backbones.weights import load_backbone
from blemish.errors import UsageError
from blemish.images import Picture
from blemish.io.atomic import replace_file, write_text
from blemish.methods.ensemble import EnsembleConfig, EnsembleTexts, PromptEnsemble
from recipes.real.judging import FIVE_SOURCES, SOURCES, Truth, figures, judged_images, table

INPUTS = ("default", "tiles", "320", "448")
LARGE_PX, TILE_PX = 448, 224
SURE = 1e-6  # as near as a probability comes to 0 or 1 before it becomes log odds


@dataclass(frozen=True)
class Prediction:
    """What the prompt ensemble gives for one image."""

    score: float  # 0..1
    anomaly_map: NDArray[np.float32]  # [h, w] patches, 0..1


@torch.inference_mode()
def predict(method: PromptEnsemble, texts: EnsembleTexts, pixels: NDArray[np.uint8], *, input_name: str) -> Prediction:
    """The score and map of an image [H, W, 3] by one of INPUTS."""
    if input_name != "tiles":
        size = method.backbone.config.preprocess.size if input_name == "default" else int(input_name)
        scores = method.score(method.encode(input_of(method.backbone, pixels, size)), texts)
        return Prediction(float(scores.image_score[0]), scores.anomaly_map[0].numpy())
    image = input_of(method.backbone, pixels, LARGE_PX)
    starts = range(0, LARGE_PX, TILE_PX)
    tiles = torch.cat([image[..., y : y + TILE_PX, x : x + TILE_PX] for y in starts for x in starts])
    global_only = PromptEnsemble(method.backbone, replace(method.config, global_weight=1.0))
    scores = global_only.score(method.encode(tiles), texts)
    top, bottom = torch.cat(list(scores.anomaly_map[:2]), 1), torch.cat(list(scores.anomaly_map[2:]), 1)
    joined = torch.cat([top, bottom])
    return Prediction(_mixed(scores.image_score.amax(), joined, method.config), joined.numpy())


def input_of(backbone: Clip, pixels: NDArray[np.uint8], size: int) -> Tensor:
    """The tower's input [1, 3, size, size]."""
    picture = Picture(np.ascontiguousarray(pixels), "")
    return torch.from_numpy(to_array(picture, replace(backbone.config.preprocess, size=size)))[None]


def _mixed(global_score: Tensor, anomaly_map: Tensor, config: EnsembleConfig) -> float:
    """The image score as `PromptEnsemble` has it, of a map that several inputs make up."""
    count = max(1, round(config.top_share * anomaly_map.numel()))
    highest = anomaly_map.flatten().topk(count).values.mean()
    return float(config.global_weight * global_score + (1 - config.global_weight) * highest)


def fused(first: Prediction, second: Prediction) -> Prediction:
    """The prediction whose log odds are the mean of two, on the finer grid."""
    fine, coarse = sorted((first.anomaly_map, second.anomaly_map), key=lambda values: -values.size)
    enlarged = Image.fromarray(coarse).resize(fine.shape[::-1], Image.Resampling.BILINEAR)
    odds = (_log_odds(fine) + _log_odds(np.asarray(enlarged))) / 2
    score = float(_log_odds(np.array(first.score)) + _log_odds(np.array(second.score))) / 2
    return Prediction(1 / (1 + float(np.exp(-score))), (1 / (1 + np.exp(-odds))).astype(np.float32))


def _log_odds(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    sure = np.clip(np.asarray(probability, np.float64), SURE, 1 - SURE)
    return np.asarray(np.log(sure / (1 - sure)))


def predict_all(
    backbone: Clip,
    images: Path,
    pairs: Path,
    *,
    large_pairs: Path | None = None,
    inputs: Sequence[str] = INPUTS,
    sources: Sequence[str] = FIVE_SOURCES,
    keep: Path | None = None,
) -> tuple[list[Truth], dict[str, list[Prediction]]]:
    """The truth of all judged images, and the predictions by input name, both in the order of the sources."""
    method = PromptEnsemble(backbone)
    texts = cast(EnsembleTexts, method.encode_texts())
    single = list(dict.fromkeys(part for name in inputs for part in name.split("+")))
    predictions: dict[str, list[Prediction]] = {name: [] for name in single}
    truths: list[Truth] = []
    started = time.monotonic()
    for source in sources:
        restored = {name: _restored(keep, name, source) for name in single}
        missing = [name for name in single if restored[name] is None]
        own: dict[str, list[Prediction]] = {name: restored[name] or [] for name in single}
        before = len(truths)
        for judged in judged_images(images, pairs, large_pairs=large_pairs, sources=[source]):
            truths.append(judged.truth)
            for name in missing:
                own[name].append(predict(method, texts, judged.pixels, input_name=name))
            if missing and len(truths) % 100 == 0:
                print(f"{len(truths)} images, {time.monotonic() - started:.0f} s", flush=True)
        for name in single:
            if len(own[name]) != len(truths) - before:
                raise UsageError(
                    f"{keep}: predictions of {source} at {name} are of other images; name another folder with --keep"
                )
            predictions[name] += own[name]
            if keep is not None and name in missing:
                _save(_file(keep, name, source), own[name])
    return truths, {name: _combined(predictions, name) for name in inputs}


def _combined(predictions: Mapping[str, Sequence[Prediction]], name: str) -> list[Prediction]:
    """The predictions of an input, or of two with a plus."""
    first, *second = (predictions[part] for part in name.split("+"))
    return list(first) if not second else list(map(fused, first, second[0]))


def _input(name: str) -> str:
    """An argument of --inputs."""
    parts = name.split("+")
    if not set(parts) <= set(INPUTS) or len(parts) > 2:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(INPUTS)}, nor two of them with a plus")
    return name


def _file(keep: Path, input_name: str, source: str) -> Path:
    return keep / f"{input_name}-{source}.npz"


def _save(path: Path, predictions: Sequence[Prediction]) -> None:
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            scores=np.array([prediction.score for prediction in predictions], np.float32),
            maps=np.stack([prediction.anomaly_map for prediction in predictions]),
        )


def _restored(keep: Path | None, input_name: str, source: str) -> list[Prediction] | None:
    if keep is None or not _file(keep, input_name, source).is_file():
        return None
    with np.load(_file(keep, input_name, source), allow_pickle=False) as arrays:
        scores, maps = arrays["scores"], arrays["maps"]
    return [Prediction(float(score), anomaly_map) for score, anomaly_map in zip(scores, maps, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real.judge", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="what recipes.real_images laid out")
    parser.add_argument("--pairs", type=Path, required=True, help="held-out photo pairs (recipes.real.pairs --judge)")
    parser.add_argument("--large-pairs", type=Path, help='for the source "large" (recipes.real.pairs --judge --large)')
    parser.add_argument("--backbone", default="embedded", help="a model's name or a folder with weights")
    parser.add_argument("--inputs", nargs="+", type=_input, default=["default"], help="see above")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(FIVE_SOURCES))
    parser.add_argument("--keep", type=Path, help="folder for scores and maps: one folder for each backbone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = Path(arguments.backbone)
    truths, predictions = predict_all(
        load_backbone(folder) if folder.is_dir() else models.load_backbone(arguments.backbone),
        arguments.images,
        arguments.pairs,
        large_pairs=arguments.large_pairs,
        inputs=arguments.inputs,
        sources=arguments.sources,
        keep=arguments.keep,
    )
    results = {
        name: figures(truths, np.array([one.score for one in every]), [one.anomaly_map for one in every])
        for name, every in predictions.items()
    }
    print(table(results))
    if arguments.json:
        write_text(arguments.json, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
