"""Every method on real images with the embedded backbone, as in docs/methods-measured.md: `python -m benchmarks.methods_table`.

Trains each method that is trained, three seeds, by the plans of `recipes.prompts` on rendered images, where `--cache` does not
hold the result; then measures the prompts after the last epoch on the real images of `benchmarks.real_sets`. Nothing is chosen:
no epoch, no seed and no option. All methods see 224 px, the size that they are trained at (`blemish inspect` takes 320 px for
the ensemble: docs/embedded-measured.md). Where a prompt names the product, it says "object".

Methods that read the same frozen features are measured together, so that each image passes the frozen tower once for all of them.
Trainings go on where they were stopped, and rows are kept in `--cache`: the same command goes on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from recipes.prompts import BACKBONE, FIRST_SEED, Plan

from benchmarks.measure import Kept, Row, means
from benchmarks.real_sets import IMAGE_SETS, PIXEL_SETS, SIMULATED, Comparison, Finding, Item, available
from blemish import models as store
from blemish import training
from blemish.backbones.model import Clip
from blemish.backbones.preprocess import to_array
from blemish.data.samples import DataSet
from blemish.errors import ModelError
from blemish.images import read
from blemish.io.codec import to_dict
from blemish.io.json_files import read_json_if_there
from blemish.io.progress import TerminalReporter
from blemish.methods import build
from blemish.methods.base import Method, Scores
from blemish.models.prompts import CARD, read_prompts
from blemish.synthesis import drawn, rendered
from blemish.training.loop import epoch_folder
from recipes import prompts

UNTRAINED = ("ensemble", "winclip")
# one of DAPO's epochs takes ten times as long as one of FAPrompt's
PLANS = prompts.PLANS | {"dapo": replace(prompts.PLANS["dapo"], epochs=1)}
METHODS = (*UNTRAINED, *PLANS)
DATA_NAMES = {"magnetic tile": "tiles"}  # of the columns


@dataclass(frozen=True)
class Trained:
    """A method as it is measured; `seed` is None where nothing is trained."""

    method: Method
    seed: int | None

    @property
    def name(self) -> str:
        return self.method.name if self.seed is None else f"{self.method.name} seed {self.seed}"


def train_seed(name: str, plan: Plan, seed: int, *, cache: Path, clip: Clip, threads: int) -> Path:
    """The folder of the prompts after the last epoch; a training that ended before is taken as it is."""
    folder, recipe = cache / name / f"seed-{seed}", plan.recipe(name, seed=seed)
    last, images = epoch_folder(folder, recipe.epochs), rendered(plan.images, first_seed=FIRST_SEED)
    if (last / CARD).is_file():
        card = read_json_if_there(last / CARD)
        known = to_dict(training.Recipe()) | card["recipe"]
        if recipe.schedule == "constant":  # what comes after an epoch changes nothing in it
            known["epochs"] = recipe.epochs
        if known != to_dict(recipe) or card["data"]["variant"] != images.variant:
            raise ModelError(f"{last}: trained by another plan; choose another --cache")
        return last
    trained = training.train(
        name,
        _drawn(plan.images, threads),
        out=folder,
        backbone=clip,
        options=plan.options,
        recipe=recipe,
        command=f"python -m benchmarks.methods_table --methods {name}",
        reporter=TerminalReporter(),
    )
    return trained.prompts[-1]


@lru_cache(maxsize=1)
def _drawn(count: int, threads: int) -> DataSet:
    return drawn(count, first_seed=FIRST_SEED, workers=threads)


def train_all(names: Iterable[str], *, cache: Path, clip: Clip, seeds: int | None, threads: int) -> list[Trained]:
    """The methods of these names, every seed of those that are trained."""
    found: list[Trained] = []
    for name in names:
        if name in UNTRAINED:
            found.append(Trained(build(name, clip).eval(), None))
            continue
        plan = PLANS[name]
        for seed in range(seeds or plan.seeds):
            place = train_seed(name, plan, seed, cache=cache, clip=clip, threads=threads)
            found.append(Trained(with_prompts(place, clip), seed))
    return found


def with_prompts(place: Path, clip: Clip) -> Method:
    found = read_prompts(place)
    if found.fingerprint != clip.fingerprint():
        raise ModelError(f"{place}: prompts of other weights of the backbone; choose another --cache")
    method = build(found.method, clip, found.options)
    method.load_trained(found.state)
    return method.eval()


class Together:
    """Methods with the same frozen features. The last comparison's findings are kept: the normal tiles are in five rows."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self.methods = methods
        self.texts = [method.encode_texts() for method in methods]
        self.known: dict[Path, list[Finding]] = {}

    def look(self, comparison: Comparison) -> list[list[Finding]]:
        """What each method says of each image, image by image."""
        self.known = {item.path: self.known[item.path] for item in comparison.items if item.path in self.known}
        for item in comparison.items:
            if item.path not in self.known:
                self.known[item.path] = self._findings(item, maps=comparison.has_masks)
        return [self.known[item.path] for item in comparison.items]

    @torch.inference_mode()
    def _findings(self, item: Item, *, maps: bool) -> list[Finding]:
        picture = read(item.path)
        pixels = torch.from_numpy(to_array(picture, self.methods[0].backbone.config.preprocess))[None]
        frozen = self.methods[0].encode_frozen(pixels)
        scored = [
            method.score(method.encode_trained(frozen), texts)
            for method, texts in zip(self.methods, self.texts, strict=True)
        ]
        return [_finding(scores, (picture.width_px, picture.height_px), maps=maps) for scores in scored]


def _finding(scores: Scores, size_px: tuple[int, int], *, maps: bool) -> Finding:
    whole = scores.anomaly_map[0].float().numpy().clip(0, 1)
    return Finding(float(scores.image_score), whole if maps else np.zeros((1, 1), np.float32), size_px)


class Member:
    """One of the methods that are measured together."""

    remark = ""
    score_range = (0.0, 1.0)

    def __init__(self, together: Together, number: int, name: str) -> None:
        self.together, self.number, self.name = together, number, name

    def identity(self) -> str:
        return self.together.methods[self.number].fingerprint()

    def absent(self, comparison: Comparison) -> str:  # noqa: ARG002
        return ""

    def look(self, comparison: Comparison) -> Sequence[Finding]:
        return [findings[self.number] for findings in self.together.look(comparison)]


def in_groups(methods: Sequence[Trained]) -> list[list[Member]]:
    """The methods by what they read of an image."""
    groups: dict[str, list[Trained]] = {}
    for one in methods:
        groups.setdefault(one.method.frozen_key(), []).append(one)
    shared = [(Together([one.method for one in group]), group) for group in groups.values()]
    return [[Member(together, number, one.name) for number, one in enumerate(group)] for together, group in shared]


def thinned(comparison: Comparison, most: int) -> Comparison:
    """The row with at most so many normal and so many anomalous images, evenly spread over all of them; 0 for all."""
    if not most:
        return comparison
    kept: set[Path] = set()
    for anomalous in (False, True):
        items = [item for item in comparison.items if item.anomalous == anomalous]
        kept |= {items[int(at)].path for at in np.linspace(0, len(items) - 1, min(most, len(items)))}
    return replace(comparison, items=tuple(item for item in comparison.items if item.path in kept))


def columns(rows: Sequence[Row]) -> dict[str, float]:
    """The figures of one method and seed: AUROC by level and set, a mean over the rows of a set, and the means over the sets."""
    found = {}
    by_name = means(rows)
    for level, sets in (("image", IMAGE_SETS), ("pixel", PIXEL_SETS)):
        part = 0 if level == "image" else 1
        for name in sets:
            own = [row for row in rows if row.set_name == name]
            several = next((values for title, values in by_name.items() if title.startswith(f"{name}, mean")), None)
            value = several[part] if several else (own[0].image_auroc, own[0].pixel_auroc)[part] if own else None
            if value is not None and value.value is not None:
                found[f"{level}, {DATA_NAMES.get(name, name)}"] = value.value
        mean = by_name["mean over the sets"][part]
        if mean.value is not None:
            found[f"{level}, mean"] = mean.value
    return found


def table(by_seed: dict[str, list[list[Row]]]) -> str:
    """A line a method, as Markdown: the mean over its seeds ± their standard deviation."""
    found = {name: [columns(rows) for rows in seeds] for name, seeds in by_seed.items()}
    titles = list(dict.fromkeys(title for seeds in found.values() for one in seeds for title in one))
    titles.sort(key=lambda title: not title.startswith("image"))
    lines = [f"| AUROC | seeds | {' | '.join(titles)} |", f"|---|---|{'---|' * len(titles)}"]
    for name, seeds in found.items():
        cells = [_cell([one[title] for one in seeds if title in one]) for title in titles]
        lines.append(f"| {name} | {len(seeds) if name in PLANS else 'none'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.methods_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("methods-cache"),
        help="trainings and rows; the store of features lies elsewhere",
    )
    parser.add_argument("--methods", default=",".join(METHODS), help="some of them, with commas between them")
    parser.add_argument("--seeds", type=int, help="so many instead of each plan's three")
    parser.add_argument(
        "--most", type=int, default=0, help="normal and anomalous images a row at most, evenly spread; 0 for all"
    )
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    settings = parser.parse_args()
    names = [name.strip() for name in settings.methods.split(",")]
    if unknown := sorted(set(names) - set(METHODS)):
        parser.error(f"--methods: {', '.join(unknown)}: not in {', '.join(METHODS)}")
    comparisons, missing = available(settings.data_root, without_normal=True)
    for line in missing:
        print("missing:", line)
    comparisons = [
        thinned(row, settings.most) for row in comparisons if settings.only in row.name and row.set_name != SIMULATED
    ]
    if not comparisons:  # said before hours of training
        parser.error(f"no images to measure in {settings.data_root}; see --data-root and --only")
    torch.set_num_threads(settings.threads)
    started, clip = time.monotonic(), store.load_backbone(BACKBONE)
    methods = train_all(names, cache=settings.cache, clip=clip, seeds=settings.seeds, threads=settings.threads)
    row_of, rows = Kept(settings.cache / "rows"), {one.name: list[Row]() for one in methods}
    for group in in_groups(methods):
        for comparison in comparisons:
            for member in group:
                rows[member.name].append(row_of(comparison, member))
            print(
                f"{comparison.name}: {', '.join(member.name for member in group)} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
    by_seed = {name: [rows[one.name] for one in methods if one.method.name == name] for name in names}
    counts = [f"{row.name} {row.normal} + {row.anomalous}" for row in rows[methods[0].name]]
    print(f"\nnormal + anomalous images: {', '.join(counts)}\n\n{table(by_seed)}")


if __name__ == "__main__":
    main()
