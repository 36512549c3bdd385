"""The image side: places and whole images aligned with the texts that describe them.

Two stages. "local": the stem alone, each place against the phrases for its state, without transformer blocks; strong defects
first. "joint": the whole tower; its blocks start as identities, so that nothing learned is lost. The value-value path (which the
methods read), one of its earlier levels and the ordinary path are aligned; CLS learns to speak for the image and to tell its
caption from hard ones. In both, each defective image, whatever its defect's size, counts the same for which type it is.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones.efficientnet import LocalStem
from blemish.backbones.layers import Block
from blemish.backbones.model import Clip
from blemish.backbones.vision import ImageTower
from blemish.language import general
from blemish.synthesis import MATERIALS
from recipes.embedded.checkpoint import load_checkpoint, log_losses, save_checkpoint
from recipes.embedded.config import BACKBONE, Recipe
from recipes.embedded.losses import alignment, captioned, naming, place_targets, whole_image
from recipes.embedded.samples import TYPES, Samples
from recipes.embedded.texts import Sayings, distillation, token_ids
from recipes.embedded.trunk_weights import pretrained_trunk
from recipes.embedded.views import View, chosen, view

ORDINARY = 0.3  # weight of the ordinary path beside the value-value path
TEXT_RATE = 0.15  # of the rate: the words are held in place
AVERAGING = 0.998  # decay of the averaged weights that ship
SAVE_EVERY = 50


def fresh_clip(text_state: dict[str, Tensor], *, seed: int) -> Clip:
    """A backbone whose text tower is trained, whose trunk is pretrained and whose image blocks do nothing yet."""
    torch.manual_seed(seed)
    clip = Clip(BACKBONE)
    clip.text.load_state_dict(text_state)
    tower = cast(ImageTower, clip.image)
    stem = cast(LocalStem, tower.stem)
    stem.trunk.load_state_dict(pretrained_trunk().state_dict())
    nn.init.normal_(tower.position_embedding, std=0.01)
    nn.init.zeros_(stem.likeness.weight)
    for block in cast(Iterable[Block], tower.blocks):
        nn.init.zeros_(block.attention.out_projection.weight)
        nn.init.zeros_(block.mlp.fc_out.weight)
    return clip


def captions(clip: Clip, types: Tensor, materials: tuple[str, ...], rng: np.random.Generator) -> Tensor:
    """[B, 6, D], unit length: the true caption of each picture, then three with its material and two with its state."""
    texts: list[str] = []
    for index, material in zip(types.tolist(), materials, strict=True):
        states = [int(state) for state in rng.permutation(len(TYPES)) if state != index][:3]
        others = [str(name) for name in rng.permutation(MATERIALS) if name != material][:2]
        texts += [_caption(state, material, rng) for state in (index, *states)]
        texts += [_caption(index, other, rng) for other in others]
    encoded = F.normalize(clip.text.encode(token_ids(texts, clip.text)), dim=-1)
    return encoded.reshape(len(materials), 6, -1)


def _caption(index: int, material: str, rng: np.random.Generator) -> str:
    if index == 0:
        return f"a photo of {material}" if rng.random() < 0.5 else f"{material} without defect"
    words = general().types[index - 1].words[:-1]
    word = words[int(rng.integers(len(words)))]
    return f"a photo of {material} with a {word}" if rng.random() < 0.5 else f"{material} with {word}"


def train_images(
    stage: str, clip: Clip, *, samples: Samples, recipe: Recipe, cache: Path, texts: tuple[Tensor, Tensor]
) -> Clip:
    """Runs one stage ("local" or "joint") where the backbone is, from where its checkpoint stands; returns the averaged
    weights."""
    number, steps, rate = {
        "local": (2, recipe.local_steps, recipe.local_rate),
        "joint": (3, recipe.joint_steps, recipe.joint_rate),
    }[stage]
    _thaw(clip, recipe)
    device = clip.logit_scale.device
    averaged = copy.deepcopy(clip)
    both = nn.ModuleList([clip, averaged])
    text_part = [p for p in clip.text.parameters() if p.requires_grad]
    image_part = [p for name, p in clip.image.named_parameters() if p.requires_grad and _acts(name, stage)]
    optimiser = torch.optim.AdamW(
        [{"params": image_part, "share": 1.0}, {"params": text_part, "share": TEXT_RATE}],
        lr=rate,
        weight_decay=0.02,
    )
    first, before = load_checkpoint(cache / f"{stage}.pt", both, optimiser, recipe=recipe)
    ids, targets = (part.to(device) for part in texts)
    sayings, started = Sayings(), time.monotonic()
    average: dict[str, float] = {}
    for step in range(first, steps):
        rng = np.random.default_rng((recipe.seed, number, step))
        factor = min(1.0, (step + 1) / 60) * (0.5 + 0.5 * float(np.cos(np.pi * step / steps)) + 0.01)
        for group in optimiser.param_groups:
            group["lr"] = rate * factor * group["share"]
        indices = chosen(samples, recipe, rng, progress=step / steps if stage == "local" else 1.0)
        terms = _losses(
            stage, clip, view(samples, indices, recipe, rng).to(device), sayings=sayings, recipe=recipe, rng=rng
        )
        rows = rng.integers(len(ids), size=48)
        terms["words"] = distillation(clip.text.encode(ids[rows]), targets[rows])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(_total(terms))
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
            log_losses(cache, stage=stage, step=step + 1, seconds=seconds, losses=average)
    return averaged


def _thaw(clip: Clip, recipe: Recipe) -> None:
    """Lets everything learn but the trunk, the token embeddings and the temperature (measuring a backbone freezes it)."""
    clip.requires_grad_(True)
    stem = cast(LocalStem, clip.image.stem)
    for frozen in (stem.trunk, clip.text.token_embedding):
        frozen.requires_grad_(False)
    clip.logit_scale.requires_grad_(False)
    stem.likeness.requires_grad_(recipe.likeness)


def _acts(name: str, stage: str) -> bool:
    return stage != "local" or not name.startswith(("blocks", "class_embedding"))


def _losses(
    stage: str, clip: Clip, seen: View, *, sayings: Sayings, recipe: Recipe, rng: np.random.Generator
) -> dict[str, Tensor]:
    texts, apart = sayings.directions(clip.text, rng)
    temperature = recipe.temperature
    anomalous, counts = place_targets(seen.masks)
    types = seen.types * anomalous.any(1)  # a defect too small for any place does not make the image anomalous
    # what tells defects from the normal would draw all types to one place, scratch to crack and burn to stain
    held = torch.cat([texts[:2], texts[2:].detach()])
    aligned = partial(alignment, texts=held, anomalous=anomalous, counts=counts, types=types, temperature=temperature)
    named = partial(naming, texts=texts, anomalous=anomalous, types=types, temperature=temperature)
    tower = clip.image
    if stage == "local":
        with torch.autocast(seen.images.device.type, torch.bfloat16):
            tokens = tower.embed(seen.images).tokens
            local = tower.project(tokens[:, 1:])
        return aligned(local) | {"naming": recipe.naming * named(local), "apart": recipe.apart * apart}
    level = int(rng.integers(1, BACKBONE.vision.depth))
    with torch.autocast(seen.images.device.type, torch.bfloat16):
        features = tower(seen.images, levels=[level], value_value_depth=BACKBONE.value_value_depth)
        assert features.value_value is not None
        local = tower.project(features.value_value[:, 1:])
        earlier = tower.project(features.value_value_levels[level][:, 1:])
        ordinary = tower.project(features.tokens[:, 1:])
        cls = tower.project(features.tokens[:, 0])
    terms = aligned(local) | whole_image(cls, held, types, temperature=temperature)
    terms["apart"] = recipe.apart * apart
    terms["ordinary"] = ORDINARY * (_total(aligned(ordinary)) + recipe.naming * named(ordinary))
    if recipe.naming:
        terms["naming"] = recipe.naming * named(local)
    if recipe.earlier_levels:
        terms["earlier"] = recipe.earlier_levels * _total(aligned(earlier))
    if recipe.captions:
        said = captions(clip, types, seen.materials, rng)
        terms["captions"] = recipe.captions * captioned(cls, said, temperature=temperature)
    return terms


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([*terms.values()]).sum()


@torch.no_grad()
def _move_average(averaged: Clip, clip: Clip, step: int) -> None:
    decay = min(AVERAGING, (step + 1) / (step + 10))
    for mean, new in zip(averaged.parameters(), clip.parameters(), strict=True):
        if new.requires_grad:
            mean.lerp_(new, 1 - decay)
