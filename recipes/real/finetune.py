"""Trains the embedded model's image sides further on real images: `python -m recipes.real.finetune --out FOLDER ...`.

A batch mixes pairs of renders and of photos with a drawn defect, real defects of VisA products, and boards of DeepPCB. The trunk
and the words stay as they are, so every vocabulary keeps its directions. Each image side learns by itself: which patches are
defective, that the defect leads its own image, that each defective image scores above each good one of its batch, and the type
where it is known. `--out` holds the checkpoint (a killed run goes on), the log, and a backbone folder with the averaged weights.

B batch, N patches, D joint width, T types.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from blemish import models
from blemish.backbones.ensemble import ImageTowerEnsemble
from blemish.backbones.model import Clip
from blemish.backbones.vision import ImageTower
from blemish.backbones.weights import load_backbone, save_backbone
from blemish.errors import UsageError
from blemish.io.atomic import replace_file, write_text
from blemish.methods.ensemble import EnsembleTexts, PromptEnsemble
from recipes.embedded.losses import ANOMALY_WEIGHT, place_targets
from recipes.embedded.views import MASK_LEFT, recoloured
from recipes.real.judging import digest_of
from recipes.real.pairs import TYPES

SAVE_EVERY = 25
AVERAGING = 0.99
HIGHEST = 4  # patches whose mean stands for the map
UNKNOWN_TYPE = -1
JUDGED_BOARDS = 50  # good and defective ones that judge
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class FinetuneRecipe:
    """Numbers of the training; what it is resumed with must be equal."""

    seed: int = 0
    steps: int = 700
    rate: float = 3e-4
    render_pairs: int = 3  # of a batch
    photo_pairs: int = 2
    products: tuple[str, ...] = ("macaroni1",)  # of VisA
    product_images: int = 3  # of a batch, a third of them defective at least
    boards: int = 3
    sides: tuple[int, ...] = (160, 192, 224)  # of the views, in pixels
    least_share: float = 0.35  # of the picture's side that a view shows
    temperature: float = 0.07
    leads: float = 0.2
    across: float = 0.3
    earlier: float = 0.3
    ordinary: float = 0.3


@dataclass(frozen=True)
class Example:
    """One image to learn from."""

    pixels: Pixels  # [h, w, 3]
    mask: NDArray[np.bool_]  # [h, w]
    type_id: int  # 0 good, else into TYPES; UNKNOWN_TYPE for a real defect


class PairShards:
    """Pairs of good and defective pictures in the folders that `recipes.real.pairs` writes."""

    def __init__(self, folder: Path) -> None:
        shards = sorted(folder.glob("[0-9]*"))
        if not shards:
            raise UsageError(f"{folder}: no pairs; make them with python -m recipes.real.pairs")
        self._images = [np.load(shard / "images.npy", mmap_mode="r") for shard in shards]
        self._masks = [np.load(shard / "masks.npy", mmap_mode="r") for shard in shards]
        self._types = [
            [TYPES.index(entry["type"]) for entry in json.loads((shard / "pairs.json").read_text())] for shard in shards
        ]

    def draw(self, rng: np.random.Generator) -> list[Example]:
        """The two pictures of a pair."""
        shard = int(rng.integers(len(self._images)))
        row = int(rng.integers(len(self._images[shard])))
        good, bad = np.asarray(self._images[shard][row])
        size = good.shape[0]
        mask = np.unpackbits(self._masks[shard][row], count=size * size).reshape(size, size).astype(bool)
        return [Example(good, np.zeros_like(mask), 0), Example(bad, mask, self._types[shard][row])]


class AnnotatedImages:
    """Real images in the layout of MVTec AD (the folder of `recipes.real_images`), good and defective."""

    def __init__(self, folder: Path, *, held_out: int = 0) -> None:
        """held_out: so many good and so many defective images are left to the judge."""
        self._folder = folder
        self._good = sorted(folder.glob("train/good/*.jpg")) or self._left(folder, "good", held_out)
        self._bad = self._left(folder, "bad", held_out)
        if not (self._good and self._bad):
            raise UsageError(f"{folder}: no good or no defective images; run python -m recipes.real_images")

    @staticmethod
    def _left(folder: Path, state: str, held_out: int) -> list[Path]:
        return sorted(folder.glob(f"test/{state}/*.jpg"), key=lambda path: digest_of(path.name))[held_out:]

    def draw(self, rng: np.random.Generator, *, defective: bool) -> Example:
        """One image of the state."""
        files = self._bad if defective else self._good
        path = files[int(rng.integers(len(files)))]
        pixels = np.asarray(Image.open(path).convert("RGB"))
        if not defective:
            return Example(pixels, np.zeros(pixels.shape[:2], bool), 0)
        mask = np.asarray(Image.open(self._folder / "ground_truth" / "bad" / f"{path.stem}_mask.png")) > 127
        return Example(pixels, mask, UNKNOWN_TYPE)


@dataclass(frozen=True)
class Sources:
    """Everything that a batch is drawn from."""

    renders: PairShards
    photos: PairShards
    products: Sequence[AnnotatedImages]
    boards: AnnotatedImages | None

    def draw(self, recipe: FinetuneRecipe, rng: np.random.Generator) -> list[list[Example]]:
        """The images of a batch; those of a group share crop and colours."""
        groups = [self.renders.draw(rng) for _ in range(recipe.render_pairs)]
        groups += [self.photos.draw(rng) for _ in range(recipe.photo_pairs)]
        for number in range(recipe.product_images):
            product = self.products[int(rng.integers(len(self.products)))]
            groups.append([product.draw(rng, defective=number % 3 == 0)])
        if self.boards is not None:
            groups += [[self.boards.draw(rng, defective=number % 3 != 0)] for number in range(recipe.boards)]
        return groups


def views(groups: Sequence[Sequence[Example]], recipe: FinetuneRecipe, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Images [B, 3, n, n] in 0..1, masks bool [B, n, n] and types [B] of one batch, at one of the sizes."""
    side = int(rng.choice(recipe.sides))
    images, masks, types = [], [], []
    for group in groups:
        height, width = group[0].mask.shape
        share = float(rng.uniform(recipe.least_share, 1.0)) if rng.random() < 0.7 else 1.0
        marked = np.argwhere(group[-1].mask)
        centre = marked[int(rng.integers(len(marked)))] if len(marked) else rng.integers((height, width))
        rows, columns = (_window(int(at), full, share, rng) for at, full in zip(centre, (height, width), strict=True))
        turns, flip, recolour = int(rng.integers(4)), bool(rng.random() < 0.5), int(rng.integers(2**31))
        for example in group:
            picture = Image.fromarray(np.ascontiguousarray(example.pixels[rows, columns]))
            pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
            drawn = Image.fromarray(example.mask[rows, columns].astype(np.uint8) * 255)
            covered = np.asarray(drawn.resize((side, side), Image.Resampling.BOX), np.float32) / 255
            mask = covered > min(MASK_LEFT, 0.9 * float(covered.max()))
            x, m = np.rot90(pixels, turns), np.rot90(mask, turns)
            x, m = (x[:, ::-1], m[:, ::-1]) if flip else (x, m)
            tensor = torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
            images.append(recoloured(tensor, np.random.default_rng(recolour)))
            masks.append(torch.from_numpy(np.ascontiguousarray(m)))
            types.append(example.type_id)
    return torch.cat(images), torch.stack(masks), torch.tensor(types)


def _window(at: int, full: int, share: float, rng: np.random.Generator) -> slice:
    """A part of a side of `full` pixels that holds the pixel `at`."""
    size = max(2, round(share * full))
    start = int(np.clip(at - rng.uniform(0.1, 0.9) * size, 0, full - size))
    return slice(start, start + size)


def patch_losses(odds: Tensor, masks: Tensor, recipe: FinetuneRecipe) -> dict[str, Tensor]:
    """The terms of patches, from their log odds [B, N] and masks [B, n, n]."""
    anomalous, counts = place_targets(masks)
    truth, weight = anomalous.float(), torch.where(anomalous, ANOMALY_WEIGHT, 1.0) * counts
    binary = F.binary_cross_entropy_with_logits(odds, truth, reduction="none")
    p = odds.sigmoid() * counts
    overlap = (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)
    bad = anomalous.any(1)
    led = torch.logsumexp(odds.masked_fill(~counts, -1e4), 1) - torch.logsumexp(odds.masked_fill(~anomalous, -1e4), 1)
    top = odds.topk(HIGHEST, dim=1).values.mean(1)
    return {
        "binary": (weight * binary).sum() / weight.sum(),
        "dice": 1 - overlap.mean(),
        "leads": recipe.leads * (led * bad).sum() / bad.sum().clamp_min(1),
        "across": recipe.across * above(top, bad),
        "pooled": 0.3 * F.binary_cross_entropy_with_logits(top, bad.float()),
    }


def above(scores: Tensor, bad: Tensor) -> Tensor:
    """How far each defective image's score [B] lies above each good one's, as a loss."""
    margin = scores[bad][:, None] - scores[~bad][None, :]
    return F.softplus(-margin).mean() if margin.numel() else scores.sum() * 0


def named(patches: Tensor, texts: Tensor, masks: Tensor, types: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy over the types at anomalous patches [B, N, D] of images whose type is known."""
    anomalous = place_targets(masks)[0] & (types > 0)[:, None]
    logits = patches @ texts[2:].T / temperature
    labels = (types - 1).clamp_min(0)[:, None].expand_as(anomalous)
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none") * anomalous
    per_image = loss.sum(1) / anomalous.sum(1).clamp_min(1)
    return per_image.sum() / anomalous.any(1).sum().clamp_min(1)


def member_losses(
    member: ImageTower,
    streams: dict[str, Tensor],
    *,
    texts: Tensor,
    masks: Tensor,
    types: Tensor,
    recipe: FinetuneRecipe,
) -> dict[str, Tensor]:
    """The terms of one image side, from its own streams [B, 1 + N, W]."""
    direction = (texts[1] - texts[0]) / recipe.temperature

    def projected(tokens: Tensor) -> Tensor:
        return F.normalize(member.project(tokens).float(), dim=-1)

    local = projected(streams["value_value"][:, 1:])
    terms = patch_losses(local @ direction, masks, recipe)
    terms["named"] = named(local, texts, masks, types, temperature=recipe.temperature)
    for name, weight in (("earlier", recipe.earlier), ("ordinary", recipe.ordinary)):
        own = patch_losses(projected(streams[name][:, 1:]) @ direction, masks, recipe)
        terms[name] = weight * torch.stack([*own.values()]).sum()
    image = projected(streams["ordinary"][:, 0]) @ direction
    bad = place_targets(masks)[0].any(1)
    terms["image"] = 0.5 * F.binary_cross_entropy_with_logits(image, bad.float())
    terms["image across"] = recipe.across * above(image, bad)
    return terms


def train(clip: Clip, sources: Sources, recipe: FinetuneRecipe, out: Path) -> Clip:
    """Runs from where the checkpoint stands; the averaged weights."""
    tower = cast(ImageTowerEnsemble, clip.image)
    texts = fixed_texts(clip)
    trained = thawed(clip)
    averaged = copy.deepcopy(clip)
    both = nn.ModuleList([clip, averaged])
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.02)
    first, before = _resume(out / "checkpoint.pt", both, optimiser, recipe)
    mean, std = (torch.tensor(v)[:, None, None] for v in (clip.config.preprocess.mean, clip.config.preprocess.std))
    started, average = time.monotonic(), dict[str, float]()
    depth = clip.config.vision.depth
    for step in range(first, recipe.steps):
        rng = np.random.default_rng((recipe.seed, 21, step))
        factor = min(1.0, (step + 1) / 30) * (0.5 + 0.5 * float(np.cos(np.pi * step / recipe.steps)) + 0.01)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * factor
        images, masks, types = views(sources.draw(recipe, rng), recipe, rng)
        level = int(rng.integers(1, depth))
        with torch.autocast("cpu", torch.bfloat16):
            seen = tower((images - mean) / std, levels=[level], value_value_depth=clip.config.value_value_depth)
        assert seen.value_value is not None
        kept = {"value_value": seen.value_value, "ordinary": seen.tokens, "earlier": seen.value_value_levels[level]}
        members = list(cast(Iterable[ImageTower], tower.members))
        parts = {name: stream.chunk(len(members), dim=-1) for name, stream in kept.items()}
        terms: dict[str, Tensor] = {}
        for number, member in enumerate(members):
            own = {name: part[number].float() for name, part in parts.items()}
            for name, value in member_losses(member, own, texts=texts, masks=masks, types=types, recipe=recipe).items():
                terms[name] = terms.get(name, 0) + value
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack([*terms.values()]).sum())
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        _move_average(averaged, clip, step)
        for name, value in terms.items():
            average[name] = average.get(name, value.item()) * 0.95 + 0.05 * value.item()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            seconds = before + time.monotonic() - started
            with replace_file(out / "checkpoint.pt") as temporary:
                state = {"both": both.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
                torch.save({**state, "seconds": seconds, "recipe": json.dumps(asdict(recipe))}, temporary)
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                shown = {name: round(value, 4) for name, value in average.items()}
                log.write(json.dumps({"step": step + 1, "seconds": round(seconds), **shown}) + "\n")
            save_backbone(averaged, out / "backbone", dtype=torch.float16)
    return averaged.eval()


def fixed_texts(clip: Clip) -> Tensor:
    """The directions [2 + T, D] of normal, abnormal and each type that the prompt ensemble uses."""
    texts = cast(EnsembleTexts, PromptEnsemble(clip).encode_texts())
    return torch.cat([texts.states, texts.defects]).clone()  # outside inference mode, so that gradients may pass it


def thawed(clip: Clip) -> list[nn.Parameter]:
    """Lets the image sides learn, but not their trunk; their parameters."""
    clip.requires_grad_(False)
    clip.image.requires_grad_(True)
    assert clip.image.trunk is not None
    clip.image.trunk.requires_grad_(False)
    return [parameter for parameter in clip.image.parameters() if parameter.requires_grad]


@torch.no_grad()
def _move_average(averaged: Clip, clip: Clip, step: int) -> None:
    decay = min(AVERAGING, (step + 1) / (step + 10))
    for mean, new in zip(averaged.image.parameters(), clip.image.parameters(), strict=True):
        if new.requires_grad:
            mean.lerp_(new, 1 - decay)


def _resume(path: Path, both: nn.Module, optimiser: torch.optim.Optimizer, recipe: FinetuneRecipe) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["recipe"] != json.dumps(asdict(recipe)):
        raise UsageError(f"{path}: made by another recipe; choose another --out or remove it")
    both.load_state_dict(state["both"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"]), float(state["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real.finetune", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="what recipes.real_images laid out")
    parser.add_argument("--photos", type=Path, required=True, help="pairs of photos (recipes.real.pairs --images)")
    parser.add_argument("--renders", type=Path, required=True, help="pairs of renders (recipes.real.pairs)")
    parser.add_argument(
        "--products", nargs="+", default=["macaroni1"], help="of VisA; the others are left to the judge"
    )
    parser.add_argument("--renders-only", action="store_true", help="the control: no real images, as many of renders")
    parser.add_argument("--backbone", default="embedded", help="what it begins as: a model's name or a folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=FinetuneRecipe.steps)
    parser.add_argument("--rate", type=float, default=FinetuneRecipe.rate)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = FinetuneRecipe(
        seed=arguments.seed, steps=arguments.steps, rate=arguments.rate, products=tuple(arguments.products)
    )
    renders, photos = PairShards(arguments.renders), PairShards(arguments.photos)
    if arguments.renders_only:
        recipe = FinetuneRecipe(
            seed=recipe.seed,
            steps=recipe.steps,
            rate=recipe.rate,
            products=(),
            render_pairs=8,
            photo_pairs=0,
            product_images=0,
            boards=0,
        )
        sources = Sources(renders, photos, (), None)
    else:
        products = [AnnotatedImages(arguments.images / "visa" / name) for name in recipe.products]
        boards = AnnotatedImages(arguments.images / "deep-pcb" / "board", held_out=JUDGED_BOARDS)
        sources = Sources(renders, photos, products, boards)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "recipe.json", json.dumps(asdict(recipe), indent=2) + "\n")
    folder = Path(arguments.backbone)
    backbone = load_backbone(folder) if folder.is_dir() else models.load_backbone(arguments.backbone)
    train(backbone, sources, recipe, arguments.out)
    print(f"{arguments.out / 'backbone'}: {recipe.steps} steps")


if __name__ == "__main__":
    main()
