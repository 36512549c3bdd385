"""FAPrompt's inference against the same method written the plain way, from the input tensor to the map at input size.

    python -m benchmarks.faprompt_speed [--rounds 3] [--size ViT-L | embedded] [--json results.json]

The plain way is the released code's: attention matrices in memory, both text passes for every image, with all 11 prompts at full
length, one image at a time, a Gaussian filter over the four axes of the map. ViT-L/14@336 at 518 px has random weights, so its
bfloat16 errors only indicate; the embedded size is the model that ships. All variants run in turn in one process with one
thread; what counts is processor time, and the ratio within each round.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from benchmarks.towers import build_tower, plain, plain_block
from blemish.backbones.catalog import catalog
from blemish.backbones.layers import Block, set_linear_precision
from blemish.backbones.model import Clip
from blemish.backbones.text import TextTower
from blemish.backbones.vision import ImageTower
from blemish.methods.base import Features, Texts
from blemish.methods.faprompt import FAPrompt, FAPromptConfig
from blemish.models.load import load_method

CONTEXT = 77
Result = tuple[Tensor, Tensor]  # image score [B], map [B, S, S]


def plain_text(tower: TextTower, prompts: Tensor, end: int, deep: Tensor, first_block: int) -> Tensor:
    """Prompts [P, n, W] padded to the full context, causal attention through a mask, every position to the last block."""
    padded = F.pad(prompts, (0, 0, 0, CONTEXT - prompts.shape[1]))
    x = padded + tower.position_embedding
    mask = torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1)
    for number, block in enumerate(tower.blocks, start=1):
        if first_block <= number < first_block + len(deep):
            tokens = deep[number - first_block].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], dim=1)
        assert isinstance(block, Block)
        x = plain_block(block, x, mask)
    return tower.ln_final(x)[:, end] @ tower.projection


def plain_texts(method: FAPrompt, prior: Tensor | None) -> Tensor:
    """The normal and the abnormal direction [2, D], both encoded anew."""
    deep = method.deep_tokens
    assert deep is not None
    own = method.abnormal_tokens + (0 if prior is None else prior)
    count, tower = len(own), method.backbone.text
    shared = torch.cat([method.start, method.normal_tokens])
    abnormal = torch.cat([shared.expand(count, -1, -1), own, method.abnormal_words.expand(count, -1, -1)], dim=1)
    normal = torch.cat([shared, method.normal_words])[None]
    ends = normal.shape[1] - 1, abnormal.shape[1] - 1
    both = [
        plain_text(tower, prompts, end, deep, method.first_deep_block)
        for prompts, end in zip((normal, abnormal), ends, strict=True)
    ]
    return F.normalize(torch.stack([both[0][0], both[1].mean(0)]), dim=-1)


def plain_head(method: FAPrompt, whole: Tensor, places: Tensor, grid: tuple[int, int], size: int) -> Result:
    """Both stages of one image [D] and [N, D], as the release computes them."""
    temperature = method.config.temperature
    first = (places @ plain_texts(method, None).T / temperature).softmax(-1)
    prior = method.prior(places[None], first[None, :, 1])
    assert prior is not None
    texts = plain_texts(method, prior[0])
    second = (places @ texts.T / temperature).softmax(-1)
    maps = [F.interpolate(p.T.reshape(1, 2, *grid), (size, size), mode="bilinear") for p in (first, second)]
    added = sum((m[:, 1] + 1 - m[:, 0]) / 4 for m in maps)
    sigma = method.config.smoothing * size / grid[0]
    anomaly_map = torch.from_numpy(gaussian_filter(torch.as_tensor(added)[None].numpy(), sigma=sigma, axes=(1, 2, 3)))
    cls = (whole @ texts.T / temperature).softmax(-1)[1]
    score = (cls + (2 * first[:, 1].max() + second[:, 1].max()) / 3) / 2
    return score[None], anomaly_map[0]


def ours(method: FAPrompt, texts: Texts, images: Tensor) -> Result:
    found = method.score(method.encode(images), texts)
    return found.image_score, found.anomaly_map


def vit_l(images: int) -> tuple[dict[str, Callable[[], Result]], int]:
    config = catalog()["ViT-L-14-336"].config
    torch.manual_seed(1)
    with torch.device("meta"):
        clip = Clip(config)
    clip.image = build_tower()
    clip.text = TextTower(config.text, config.joint_width)
    clip.logit_scale = nn.Parameter(torch.tensor(0.0))
    method = FAPrompt(clip, FAPromptConfig())
    texts = method.encode_texts()
    rough = FAPrompt(copy.deepcopy(clip), FAPromptConfig())
    rough.load_trained(method.trained_parts())
    set_linear_precision(rough.backbone, torch.bfloat16)
    rough_texts = rough.encode_texts()
    batch = torch.randn(images, 3, config.preprocess.size, config.preprocess.size)

    def plainly() -> Result:
        results = []
        for image in batch:
            cls, tokens = plain(cast(ImageTower, clip.image), image[None])
            places = F.normalize(tokens[0, 1:], dim=-1)
            side = round(len(places) ** 0.5)
            results.append(plain_head(method, F.normalize(cls[0], dim=-1), places, (side, side), batch.shape[-1]))
        return torch.cat([score for score, _ in results]), torch.cat([one for _, one in results])

    variants: dict[str, Callable[[], Result]] = {
        "plain fp32": plainly,
        "ours fp32": lambda: ours(method, texts, batch),
        "ours bf16": lambda: ours(rough, rough_texts, batch),
    }
    return variants, images


def embedded(images: int) -> tuple[dict[str, Callable[[], Result]], int]:
    loaded = load_method("embedded", method="faprompt")
    method = loaded.method
    assert isinstance(method, FAPrompt)
    texts = method.encode_texts()
    size = method.backbone.config.preprocess.size
    batch = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0))

    def plainly() -> Result:
        results = []
        for image in batch:
            features: Features = method.encode(image[None])
            results.append(plain_head(method, features.global_feature[0], features.levels[-1][0], features.grid, size))
        return torch.cat([score for score, _ in results]), torch.cat([one for _, one in results])

    return {"plain fp32": plainly, "ours fp32": lambda: ours(method, texts, batch)}, images


def text_side() -> tuple[dict[str, Callable[[], Result]], int]:
    """Only what depends on the text tower, for eight images: both passes against the second one, batched."""
    config = catalog()["ViT-L-14-336"].config
    torch.manual_seed(1)
    with torch.device("meta"):
        clip = Clip(config)
    clip.text = TextTower(config.text, config.joint_width)
    method = FAPrompt(clip, FAPromptConfig())
    priors = 0.1 * torch.randn(8, config.text.width)

    def plainly() -> Result:
        texts = []
        for prior in priors:
            plain_texts(method, None)  # once more for every image, as the release does
            texts.append(plain_texts(method, prior))
        return torch.stack(texts), torch.zeros(1)

    normal = method.embed_normal().detach()

    def batched() -> Result:
        abnormal = method.embed_abnormal(priors).mean(1)
        return F.normalize(torch.stack([normal.expand_as(abnormal), abnormal], dim=1), dim=-1), torch.zeros(1)

    def one_by_one() -> Result:
        abnormal = torch.cat([method.embed_abnormal(prior[None]).mean(1) for prior in priors])
        return F.normalize(torch.stack([normal.expand_as(abnormal), abnormal], dim=1), dim=-1), torch.zeros(1)

    return {"plain fp32": plainly, "ours, one by one": one_by_one, "ours, batched": batched}, len(priors)


def compare(title: str, variants: dict[str, Callable[[], Result]], images: int, rounds: int) -> dict[str, object]:
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    results: dict[str, Result] = {}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, run in variants.items():
                started = time.process_time()
                results[name] = run()
                seconds[name].append((time.process_time() - started) / images)
    figures: dict[str, object] = {}
    print(f"\n{title}: CPU-s an image, {rounds} rounds of {images}")
    for name, taken in seconds.items():
        ratios = [one / other for one, other in zip(seconds["plain fp32"], taken, strict=True)]
        errors = [
            float((one - other).abs().max()) for one, other in zip(results[name], results["plain fp32"], strict=True)
        ]
        figures[name] = {
            "cpu_s": statistics.median(taken),
            "speedup": statistics.median(ratios),
            "error_score": errors[0],
            "error_map": errors[1],
        }
        print(f"  {name:18s} {statistics.median(taken):8.4f}   {statistics.median(ratios):6.2f}x   "
              f"errors: {errors[0]:.1e} {errors[1]:.1e}")  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=("all", "text", "ViT-L", "embedded"), default="all")
    parser.add_argument("--images", type=int, default=1, help="images of a round at ViT-L size")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    report = {}
    if options.size in ("all", "text"):
        report["text"] = compare("text side of ViT-L/14@336 (errors: directions)", *text_side(), options.rounds)
    if options.size in ("all", "embedded"):
        report["embedded"] = compare("embedded, 224 px (errors: score, map)", *embedded(16), options.rounds)
    if options.size in ("all", "ViT-L"):
        report["ViT-L"] = compare("ViT-L/14@336, 518 px (errors: score, map)", *vit_l(options.images), options.rounds)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
