"""The image side: places and whole images aligned with the texts that describe them.

Three stages. "local": the stem alone, each place against the phrases for its state, without transformer blocks. "joint": the
whole tower; its blocks start as identities, so that nothing learned is lost, and both the value-value path (which the methods
read) and the ordinary path are aligned; CLS learns to speak for the image. "naming": each defective image, whatever its defect's
size, counts the same for which type it is. Before it, anomalous places had a tenth of the typed loss and cracks were all threads.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.clip.layers import Block
from blemish.clip.model import Clip
from blemish.clip.tokenizer import tokenize
from blemish.clip.trunk import LocalStem
from blemish.methods.naming import phrases
from blemish.vocabulary import DefectType, general
from training.embedded.checkpoint import load_checkpoint, save_checkpoint
from training.embedded.config import BACKBONE, Recipe
from training.embedded.samples import TYPES, Samples
from training.embedded.texts import THINGS, distillation
from training.embedded.trunk_weights import pretrained_trunk

TOP_PLACES = 20
ANOMALY_WEIGHT = 3.0  # anomalous places are few
AVERAGING = 0.998  # decay of the averaged weights that ship
SAVE_EVERY = 50


def fresh_clip(text_state: dict[str, Tensor], *, seed: int) -> Clip:
    """A backbone whose text tower is trained, whose trunk is pretrained and whose image blocks do nothing yet."""
    torch.manual_seed(seed)
    clip = Clip(BACKBONE)
    clip.text.load_state_dict(text_state)
    stem = cast(LocalStem, clip.image.stem)
    stem.trunk.load_state_dict(pretrained_trunk().state_dict())
    nn.init.normal_(clip.image.position_embedding, std=0.01)
    for block in cast(Iterable[Block], clip.image.blocks):
        nn.init.zeros_(block.attention.out_projection.weight)
        nn.init.zeros_(block.mlp.fc_out.weight)
    return clip


def _thaw(clip: Clip) -> None:
    """Lets everything learn but the trunk, the token embeddings and the temperature (measuring a backbone freezes it)."""
    clip.requires_grad_(True)
    for frozen in (cast(LocalStem, clip.image.stem).trunk, clip.text.token_embedding):
        frozen.requires_grad_(False)
    clip.logit_scale.requires_grad_(False)


class Sayings:
    """Random phrasings for normal, abnormal and each type, as directions in the joint space."""

    def __init__(self) -> None:
        # the last synonym of each type is never paired with an image: the card reports how well such words are understood
        taught = [DefectType(defect.name, defect.synonyms[:-1]) for defect in general().types]
        self.groups = [phrases("normal"), phrases("abnormal"), *(phrases("typed", defect) for defect in taught)]

    def directions(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        """[2+T, D], unit length: each the mean of a few random phrasings (four for the states, two for a type)."""
        counts = [4, 4] + [2] * (len(self.groups) - 2)
        texts = []
        for group, count in zip(self.groups, counts, strict=True):
            for index in rng.integers(len(group), size=count):
                thing = "object" if rng.random() < 0.5 else THINGS[int(rng.integers(len(THINGS)))]
                texts.append(group[index].replace("{}", thing))
        encoded = F.normalize(clip.text.encode(torch.from_numpy(tokenize(texts, truncate=True))), dim=-1)
        means = [part.mean(0) for part in torch.split(encoded, counts)]
        return F.normalize(torch.stack(means), dim=-1)


def place_targets(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Which 8×8 places are anomalous and which count, each bool [B, N]: a sliver of a defect neither is nor is not one."""
    share = F.avg_pool2d(masks[:, None].float(), 4)
    fullest = F.max_pool2d(share, 2)[:, 0].flatten(1)
    anomalous = fullest > 0.25
    return anomalous, anomalous | (fullest == 0)


def alignment(
    places: Tensor, texts: Tensor, *, anomalous: Tensor, counts: Tensor, types: Tensor, temperature: float
) -> dict[str, Tensor]:
    """Losses of place features [B, N, D] against directions [2+T, D]."""
    cosines = F.normalize(places.float(), dim=-1) @ texts.T / temperature  # [B, N, 2+T]
    log_p = cosines[..., :2].log_softmax(-1)
    truth, weight = anomalous.float(), torch.where(anomalous, ANOMALY_WEIGHT, 1.0) * counts
    binary = -(weight * (truth * log_p[..., 1] + (1 - truth) * log_p[..., 0])).sum() / weight.sum()
    p = log_p[..., 1].exp()
    seen, true_seen = p * counts, truth * counts
    overlap = (2 * (seen * true_seen).sum(1) + 1) / (seen.sum(1) + true_seen.sum(1) + 1)
    typed_logits = torch.cat([cosines[..., :1], cosines[..., 2:]], -1)
    labels = anomalous.long() * types[:, None]
    typed = F.cross_entropy(typed_logits.transpose(1, 2), labels, reduction="none")
    typed = (typed * weight).sum() / weight.sum()
    pooled = p.topk(TOP_PLACES, 1).values.mean(1).clamp(1e-4, 1 - 1e-4)
    image = F.binary_cross_entropy(pooled, anomalous.any(1).float())
    return {"binary": binary, "dice": 1 - overlap.mean(), "typed": typed, "pooled": 0.3 * image}


def naming(places: Tensor, texts: Tensor, *, anomalous: Tensor, types: Tensor, temperature: float) -> Tensor:
    """Cross-entropy over the types alone, at the anomalous places [B, N], each defective image with the same weight."""
    logits = F.normalize(places.float(), dim=-1) @ texts[2:].T / temperature  # [B, N, T]
    defective = anomalous.any(1)
    labels = (types - 1).clamp_min(0)[:, None].expand_as(anomalous)
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none") * anomalous  # [B, N]
    per_image = loss.sum(1) / anomalous.sum(1).clamp_min(1)
    return per_image.sum() / defective.sum().clamp_min(1)


def whole_image(cls: Tensor, texts: Tensor, types: Tensor, *, temperature: float) -> dict[str, Tensor]:
    """Losses of global features [B, D]: normal against abnormal, and which type."""
    cosines = F.normalize(cls.float(), dim=-1) @ texts.T / temperature
    typed_logits = torch.cat([cosines[:, :1], cosines[:, 2:]], -1)
    return {
        "global binary": 0.5 * F.cross_entropy(cosines[:, :2], (types > 0).long()),
        "global typed": 0.3 * F.cross_entropy(typed_logits, types),
    }


def train_images(
    stage: str, clip: Clip, *, samples: Samples, recipe: Recipe, cache: Path, texts: tuple[Tensor, Tensor]
) -> Clip:
    """Runs one stage ("local" or "joint") from where its checkpoint stands; returns the averaged weights."""
    number, steps, rate = {
        "local": (2, recipe.local_steps, recipe.local_rate),
        "joint": (3, recipe.joint_steps, recipe.joint_rate),
        "naming": (4, recipe.naming_steps, recipe.naming_rate),
    }[stage]
    _thaw(clip)
    averaged = copy.deepcopy(clip)
    both = nn.ModuleList([clip, averaged])
    text_part = [p for p in clip.text.parameters() if p.requires_grad]
    image_part = [p for name, p in clip.image.named_parameters() if p.requires_grad and _acts(name, stage)]
    optimiser = torch.optim.AdamW(
        [{"params": image_part, "share": 1.0}, {"params": text_part, "share": 0.15}], lr=rate, weight_decay=0.02
    )
    first, before = load_checkpoint(cache / f"{stage}.pt", both, optimiser, recipe=recipe)
    (ids, targets), sayings, started = texts, Sayings(), time.monotonic()
    average: dict[str, float] = {}
    for step in range(first, steps):
        rng = np.random.default_rng((recipe.seed, number, step))
        factor = min(1.0, (step + 1) / 60) * (0.5 + 0.5 * float(np.cos(np.pi * step / steps)) + 0.01)
        for group in optimiser.param_groups:
            group["lr"] = rate * factor * group["share"]
        batch = _augmented(samples, recipe, rng)
        terms = _losses(stage, clip, batch, sayings.directions(clip, rng), temperature=recipe.temperature)
        rows = rng.integers(len(ids), size=48)
        terms["words"] = distillation(clip.text.encode(ids[rows]), targets[rows])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(sum(terms.values(), torch.zeros(())))
        torch.nn.utils.clip_grad_norm_(image_part + text_part, 1.0)
        optimiser.step()
        _move_average(averaged, clip, step)
        for name, value in terms.items():
            average[name] = average.get(name, value.item()) * 0.98 + 0.02 * value.item()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            shown = " ".join(f"{name} {value:.3f}" for name, value in average.items())
            seconds = before + time.monotonic() - started
            print(f"{stage} {step + 1}/{steps} {seconds:.0f} s: {shown}", flush=True)
            save_checkpoint(cache / f"{stage}.pt", both, optimiser, step=step + 1, seconds=seconds, recipe=recipe)
    return averaged


def _acts(name: str, stage: str) -> bool:
    return stage != "local" or not name.startswith(("blocks", "class_embedding"))


def _losses(
    stage: str, clip: Clip, batch: tuple[Tensor, Tensor, Tensor], directions: Tensor, *, temperature: float
) -> dict[str, Tensor]:
    images, masks, types = batch
    anomalous, counts = place_targets(masks)
    types = types * anomalous.any(1)  # a defect too small for any place does not make the image anomalous
    aligned = partial(
        alignment, texts=directions, anomalous=anomalous, counts=counts, types=types, temperature=temperature
    )
    tower = clip.image
    with torch.autocast("cpu", torch.bfloat16):
        if stage == "local":
            tokens, _ = tower.embed(images)
            local, ordinary, cls = tower.project(tokens[:, 1:]), None, None
        else:
            both = stage == "joint"
            features = tower(images, value_value_depth=BACKBONE.value_value_depth, patches=both)
            assert features.value_value is not None
            local = tower.project(features.value_value[:, 1:])
            ordinary = tower.project(features.tokens[:, 1:]) if both else None
            cls = tower.project(features.tokens[:, 0])
    terms = aligned(local)
    if ordinary is not None:
        terms["ordinary"] = 0.3 * sum(aligned(ordinary).values(), torch.zeros(()))
    if stage == "naming":
        terms["naming"] = naming(local, directions, anomalous=anomalous, types=types, temperature=temperature)
    if cls is not None:
        terms |= whole_image(cls, directions, types, temperature=temperature)
    return terms


def _augmented(samples: Samples, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    images, masks, types = samples.batch(np.sort(rng.integers(len(samples), size=recipe.batch)))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    m = torch.from_numpy(masks)
    turns, flip = int(rng.integers(4)), bool(rng.random() < 0.5)
    x, m = torch.rot90(x, turns, (2, 3)), torch.rot90(m, turns, (1, 2))
    if flip:
        x, m = x.flip(3), m.flip(2)
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (len(x), 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.12, 0.12, (len(x), 1, 1, 1)).astype(np.float32))
    x = ((x - 0.5) * gain + 0.5 + offset).clamp(0, 1)
    mean, std = (torch.tensor(value)[:, None, None] for value in (BACKBONE.preprocess.mean, BACKBONE.preprocess.std))
    return (x - mean) / std, m, torch.from_numpy(types)


@torch.no_grad()
def _move_average(averaged: Clip, clip: Clip, step: int) -> None:
    decay = min(AVERAGING, (step + 1) / (step + 10))
    for mean, new in zip(averaged.parameters(), clip.parameters(), strict=True):
        if new.requires_grad:
            mean.lerp_(new, 1 - decay)


__all__ = ["TYPES", "Sayings", "fresh_clip", "train_images"]
