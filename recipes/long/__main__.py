"""Trains image sides at length: `python -m recipes.long --bundle FOLDER --pairs FOLDER --out FOLDER --side frozen:0 ...`.

Made for a GPU and some minutes (`recipes/gpu.sh`); runs anywhere. Pairs are read while others draw them
(`recipes.long.producing`). It ends after `--steps` or `--seconds` (loading counts, too), whichever is first; the rate falls to
zero until then. `--out` holds the averaged weights of each group of sides at some parts of the way, the log, and what was done.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blemish.backbones.vision import ImageTower
from blemish.errors import UsageError
from recipes.embedded.config import BACKBONE
from recipes.long.batches import SHARES, BatchSources, Views
from recipes.long.bundle import START, Bundle
from recipes.long.losses import Targets, Weights, member_loss
from recipes.long.recipe import LongRecipe
from recipes.long.towers import Group, Side, ThawedTower, groups_of

EXACT_TEXTS = 0.5  # share of the steps with the ensemble's own directions
PATIENCE = 300  # seconds that the first pairs are waited for
SAVED_AT = (0.5, 0.75, 0.9, 1.0)  # parts of the way: a run that is cut off leaves something


def losses(
    group: Group, views: Views, *, seen: Sequence[Tensor], texts: Tensor, level: int, weights: Weights
) -> list[Tensor]:
    """The loss of each of a group's sides; `seen` are the rows that each may learn from."""
    tower, device = group.tower, views.images.device
    mean, std = (
        torch.tensor(v, device=device)[:, None, None] for v in (BACKBONE.preprocess.mean, BACKBONE.preprocess.std)
    )
    with torch.autocast(device.type, torch.bfloat16):
        features = tower((views.images - mean) / std, levels=[level], value_value_depth=BACKBONE.value_value_depth)
    assert features.value_value is not None
    kept = {
        "value_value": features.value_value,
        "ordinary": features.tokens,
        "earlier": features.value_value_levels[level],
    }
    targets = Targets.of(views.masks, views.types)
    members = list(cast(Iterable[ImageTower], tower.members))
    parts = {name: stream.chunk(len(members), dim=-1) for name, stream in kept.items()}
    totals = []
    for number, (member, rows) in enumerate(zip(members, seen, strict=True)):
        own = {name: part[number][rows].float() for name, part in parts.items()}
        terms = member_loss(member, own, texts=texts, targets=targets.rows(rows), weights=weights)
        totals.append(torch.stack([*terms.values()]).sum())
    return totals


def train(
    sources: BatchSources,
    groups: Sequence[Group],
    texts: tuple[Tensor, Tensor],
    recipe: LongRecipe,
    out: Path,
    *,
    begun: float | None = None,
) -> None:
    """Runs to the end; writes weights, log and summary below `out`. `begun`: the monotonic time from which its seconds count."""
    device = sources.device
    weights, depth = Weights(), BACKBONE.vision.depth
    optimiser = torch.optim.AdamW(
        [part for group in groups for part in group.parameters(recipe.rate, recipe.trunk_rate)],
        weight_decay=recipe.decay,
        fused=device.type == "cuda",
    )
    generator = torch.Generator(device).manual_seed(recipe.seed)
    hidden = {source for group in groups for side in group.sides for source in side.without}
    hidden_ids = torch.tensor([sources.names.index(name) for name in hidden], device=device, dtype=torch.int64)
    allowed = [
        [torch.tensor([side.sees(name) for name in sources.names], device=device) for side in group.sides]
        for group in groups
    ]
    started = time.monotonic() if begun is None else begun
    step, views_seen, saved = 0, 0, 0

    def summarise() -> None:
        summary = {
            "recipe": asdict(recipe),
            "weights": asdict(weights),
            "shares": SHARES,
            "steps": step,
            "views": views_seen,
            "seconds": round(time.monotonic() - started),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "torch": torch.__version__,
            "sources": {name: {"good": len(p.good), "bad": len(p.bad)} for name, p in sources.annotated.items()},
            "pairs": {name: pool.filled for name, pool in sources.pairs.items()},
            "groups": {group.trunk: [asdict(side) for side in group.sides] for group in groups},
        }
        (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    while True:
        part = max(step / recipe.steps, (time.monotonic() - started) / recipe.seconds)
        while saved < len(SAVED_AT) and part >= SAVED_AT[saved]:
            save(groups, out, SAVED_AT[saved])
            summarise()  # with each: what is cut off later can be assembled
            saved += 1
        if part >= 1:
            break
        rng = np.random.default_rng((recipe.seed, 41, step))
        factor = min(1.0, (step + 1) / recipe.warm_up) * (0.5 + 0.5 * float(np.cos(np.pi * min(1.0, part))))
        for one in optimiser.param_groups:
            one["lr"] = one["top"] * factor
        if step % 2 == 0:
            sources.refill(2)
        with torch.no_grad():
            views = sources.draw(recipe, rng, generator)
        words = texts[0] if rng.random() < EXACT_TEXTS else texts[1][int(rng.integers(len(texts[1])))]
        level = int(rng.integers(1, depth))
        optimiser.zero_grad(set_to_none=True)
        shown = []
        for group, rows in zip(groups, allowed, strict=True):
            if group.trunk == "thawed":
                cast(ThawedTower, group.tower).detached = torch.isin(views.sources, hidden_ids)
            seen = [torch.nonzero(may[views.sources])[:, 0] for may in rows]
            totals = losses(group, views, seen=seen, texts=words, level=level, weights=weights)
            torch.autograd.backward(torch.stack(totals).sum())
            for member in group.tower.towers:
                torch.nn.utils.clip_grad_norm_(member.parameters(), 1.0)
            shown += [total.detach() for total in totals]
        optimiser.step()
        for group in groups:
            group.move_average(min(recipe.averaging, (step + 1) / (step + 10)))
        step, views_seen = step + 1, views_seen + len(views.types)
        if step % 50 == 0 or step <= 3:
            line = {
                "step": step,
                "seconds": round(time.monotonic() - started, 1),
                "part": round(part, 3),
                "views": views_seen,
                "pairs": {name: pool.filled for name, pool in sources.pairs.items()},
                "losses": [round(float(value), 3) for value in torch.stack(shown).tolist()],
            }
            print(json.dumps(line), flush=True)
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")


def save(groups: Sequence[Group], out: Path, part: float) -> None:
    """The averaged weights of each group, fp16; the trunk only where it learned."""
    for group in groups:
        state = {
            name: value.half().cpu().contiguous()
            for name, value in group.averaged.state_dict().items()
            if group.trunk == "thawed" or ".trunk." not in name
        }
        save_file(state, out / f"{group.trunk}-{round(100 * part):03d}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.long", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="folder that recipes.long.producing fills")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--side",
        type=Side.parse,
        action="append",
        required=True,
        metavar="TRUNK:START[:SOURCES]",
        help="frozen:0, frozen:0:-visa-capsules (without) or frozen:0:renders,photos (only these)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    for name, kind in (
        ("seed", int),
        ("steps", int),
        ("seconds", float),
        ("pixels", int),
        ("rate", float),
        ("places", int),
    ):
        parser.add_argument(f"--{name}", type=kind, default=getattr(LongRecipe, name))
    parser.add_argument("--fill", type=int, default=LongRecipe.fill)
    parser.add_argument("--sides-px", type=int, nargs="+", default=list(LongRecipe.sides_px))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = torch.device(arguments.device)
    recipe = LongRecipe(
        seed=arguments.seed,
        steps=arguments.steps,
        seconds=arguments.seconds,
        pixels=arguments.pixels,
        rate=arguments.rate,
        places=arguments.places,
        fill=arguments.fill,
        sides_px=tuple(arguments.sides_px),
    )
    begin = time.monotonic()
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = load_file(arguments.bundle / START)
    sources = BatchSources(Bundle(arguments.bundle), arguments.pairs, recipe, device)
    print(
        json.dumps({"annotated": {name: [len(p.good), len(p.bad)] for name, p in sources.annotated.items()}}),
        flush=True,
    )
    waiting = time.monotonic()
    while min(len(list(arguments.pairs.glob(f"{kind}-*.npy"))) for kind in sources.pairs) < recipe.fill:
        if time.monotonic() - waiting > PATIENCE:
            raise UsageError(f"{arguments.pairs}: fewer than {recipe.fill} shards of each kind after {PATIENCE} s")
        time.sleep(0.2)
    sources.refill(recipe.fill, wait=True)
    for side in arguments.side:
        side.check(sources.names)
    groups = groups_of(arguments.side, start, device)
    words = start["texts"].float().to(device), start["variants"].float().to(device)
    train(sources, groups, words, recipe, arguments.out, begun=begin)


if __name__ == "__main__":
    main()
