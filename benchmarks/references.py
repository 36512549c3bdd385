"""What good images are worth, from one to all: `python -m benchmarks.references --data-root FOLDER --out FILE.md`.

For each set its good images are drawn, the rest is scored: by the words alone, by a memory alone (the distance to the nearest
good patch), by both (`--references`), and by PatchCore (Roth et al., CVPR 2022) on the same trunk: mean features of 3 x 3
patches at strides 8 and 16, a greedy coreset of a tenth, the image's score that of its most distant patch, reweighted.
Every image is looked at once; a draw then takes seconds. `--most N` takes N good and N anomalous images of a set, by lot.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.real_sets import Comparison, Item, available
from blemish.backbones.preprocess import to_array
from blemish.images import read
from blemish.io.atomic import write_text
from blemish.maps import at_original
from blemish.methods.base import Method
from blemish.methods.coreset import choose_covering
from blemish.methods.nearest import Entries
from blemish.methods.reference_memory import MemoryOptions
from blemish.methods.referenced import ReferencedScoring, highest
from blemish.methods.remembering import Look, assembled, compare_images, looked_at
from blemish.metrics import PixelRanking, auroc
from blemish.models.load import load_method

COUNTS = (1, 2, 4, 8, 16, 64)
WAYS = ("words alone", "memory alone", "PatchCore", "words and memory")
TOP_SHARE = 0.005
Figures = tuple[float, float, float]  # image AUROC, pixel AUROC, AUPRO
LEAST_TESTED = 5  # good images that are not in the memory


@dataclass(frozen=True)
class Seen:
    """The images of a set as they were looked at, one after the other."""

    items: tuple[Item, ...]
    looks: tuple[Look, ...]
    has_masks: bool

    def which(self, *, anomalous: bool) -> list[int]:
        """The numbers of the anomalous images, or of the others."""
        return [number for number, item in enumerate(self.items) if item.anomalous == anomalous]


def look_at(method: Method, comparison: Comparison, *, most: int | None) -> Seen:
    """The images of a row; `most` good and as many anomalous ones at most."""
    rng, kept = np.random.default_rng(0), []
    for anomalous in (False, True):
        own = [item for item in comparison.items if item.anomalous == anomalous]
        kept += [own[number] for number in sorted(rng.permutation(len(own))[:most])]
    preprocess, looks, items = method.backbone.config.preprocess, [], []
    for item in kept:
        found = looked_at(method, [torch.from_numpy(to_array(read(item.path), preprocess))[None]], known=())
        looks += found
        items.append(item)
    return Seen(tuple(items), tuple(looks), comparison.has_masks)


def scored(
    method: Method, seen: Seen, good: Sequence[int], tested: Sequence[int]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Each way's image scores [n] and maps [n, h, w] of the tested images, with these good ones in the memory."""
    memory = compare_images(
        assembled(method, [seen.looks[number] for number in good], MemoryOptions()), device=torch.device("cpu")
    )
    beside = ReferencedScoring(method, memory)
    usual = beside.usual(method.encode_texts())
    own = torch.stack([seen.looks[number].log_odds for number in tested])  # [n, h, w]
    grid = tuple(own.shape[1:])
    near = [
        beside.bank.entries.nearest(beside.bank.projection([level[None] for level in seen.looks[number].maps])[0], k=5)
        for number in tested
    ]
    distances, numbers = torch.stack([one.distances for one in near]), torch.stack([one.numbers for one in near])
    yield WAYS[0], torch.tensor([seen.looks[number].image_log_odds for number in tested]), own
    nearest = distances[..., 0]
    yield WAYS[1], highest(nearest, TOP_SHARE), nearest.reshape(-1, *grid)
    yield WAYS[2], *patchcore(seen, good, tested)
    yield WAYS[3], *beside.probability(usual, beside.evidence(usual, own.flatten(1), distances, numbers), grid)


def patchcore(seen: Seen, good: Sequence[int], tested: Sequence[int]) -> tuple[Tensor, Tensor]:
    """PatchCore's image scores [n] and maps [n, h, w]."""

    def patches(number: int) -> Tensor:
        fine, coarse = (F.avg_pool2d(level[None], 3, 1, 1) for level in seen.looks[number].maps)
        coarse = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse], 1).flatten(2)[0].T.contiguous()

    everything = torch.cat([patches(number) for number in good])
    memory = everything[choose_covering(everything, max(1, len(everything) // 10))]
    entries, grid = Entries(memory, images=torch.zeros(len(memory))), seen.looks[0].maps[0].shape[-2:]
    scores, maps = [], []
    for number in tested:
        own = patches(number)
        near = entries.nearest(own, k=1)
        worst = int(near.distances[:, 0].argmax())
        around = memory[entries.nearest(memory[near.numbers[worst]], k=9).numbers[0]]
        distances = (around - own[worst]).norm(dim=1)
        weight = 1 - torch.softmax(distances, 0)[0]
        scores.append(weight * near.distances[worst, 0])
        maps.append(near.distances[:, 0].reshape(tuple(grid)))
    return torch.stack(scores), torch.stack(maps)


def figures(seen: Seen, tested: Sequence[int], image: Tensor, maps: Tensor) -> Figures:
    """Image AUROC, pixel AUROC and AUPRO; the last two are NaN without masks."""
    labels = [seen.items[number].anomalous for number in tested]
    ranking = PixelRanking(score_range=None)
    for number, one in zip(tested, maps.numpy(), strict=True):
        if not seen.has_masks:
            break
        item = seen.items[number]
        size = read(item.path)
        whole: NDArray[np.float32] = at_original(one.astype(np.float32), (size.width_px, size.height_px))
        ranking.add(whole, item.mask_pixels(whole.shape), name=item.name)
    at_pixels = (float(ranking.auroc()), float(ranking.aupro())) if seen.has_masks else (float("nan"), float("nan"))
    return float(auroc(image.numpy(), np.array(labels))), *at_pixels


def measured(method: Method, seen: Seen, *, draws: int) -> Iterator[tuple[str, str, list[Figures]]]:
    """For each number of good images and each way: the figures of each draw."""
    normal, anomalous = seen.which(anomalous=False), seen.which(anomalous=True)
    whole = max(1, len(normal) - max(LEAST_TESTED, len(normal) // 5))
    for count in (*(one for one in COUNTS if one < whole), whole):
        rows: dict[str, list[Figures]] = {way: [] for way in WAYS}
        for draw in range(draws):
            order = np.random.default_rng(draw).permutation(normal)
            good, tested = order[:count].tolist(), [*order[whole:].tolist(), *anomalous]
            for way, image, maps in scored(method, seen, good, tested):
                rows[way].append(figures(seen, tested, image, maps))
        for way, found in rows.items():
            yield f"{count}{' (all)' if count == whole else ''}", way, found


def cells(found: Sequence[Figures]) -> str:
    """Mean and standard deviation over the draws, as cells of a table; empty where nothing was measured."""
    columns = [[value for value in column if not np.isnan(value)] for column in zip(*found, strict=True)]
    return " | ".join(
        f"{statistics.fmean(column):.3f} ± {statistics.pstdev(column):.3f}" if column else "" for column in columns
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--public", type=Path, help="folder that benchmarks.public_sets filled")
    parser.add_argument("--only", default="", help="sets whose name holds this")
    parser.add_argument("--input-px", type=int)
    parser.add_argument("--most", type=int)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path)
    settings = parser.parse_args()
    method, lines = load_method(method="ensemble", input_px=settings.input_px).method, []
    for comparison in available(settings.data_root, public=settings.public)[0]:
        if settings.only not in comparison.name:
            continue
        started = time.monotonic()
        with torch.inference_mode():
            seen = look_at(method, comparison, most=settings.most)
            for count, way, found in measured(method, seen, draws=settings.draws):
                lines.append(f"| {comparison.name} | {count} | {way} | {cells(found)} |")
                print(lines[-1], flush=True)
        print(f"{comparison.name}: {time.monotonic() - started:.0f} s", flush=True)
    head = ["| images | good ones | by | image AUROC | pixel AUROC | AUPRO |", "|---|---|---|---|---|---|"]
    table = "\n".join([*head, *lines]) + "\n"
    if settings.out is not None:
        write_text(settings.out, table)


if __name__ == "__main__":
    main()
