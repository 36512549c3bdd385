"""Whether the words matter: `python -m benchmarks.words_matter --method faprompt [--images 4]`.

On rendered pictures with two defects, of type A and of type B, at places of their own: a scene by a held-out seed, both defects
of the same asked contrast. Every unordered pair of the built-in types gets `--images` pictures, and each picture is asked about
both ways, A and B and B and A: so a defect that stands out more than the other helps one way as much as it harms the other, and
a method that is deaf to words gets 50 %.

- **leads**: the typed map of the word A has a higher mean over A's mask than over B's.
- **raised**: asking for A instead of B moves the balance towards A: (mean over A's mask - mean over B's mask), of the map of A,
  is greater than the same of the map of B. It is the same question both ways, so it counts once a picture.

Both are asked with the vocabulary [A, B] alone and with all built-in names. For comparison the words are shuffled: a
permutation of all names, drawn for each picture, gives A and B two names that are neither, and their maps are read instead.
Asked for A alone, the map of A is the anomaly map in methods whose types share one anomaly probability: nothing to measure there.
Intervals are 95 %, by a bootstrap over pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from blemish.backbones.preprocess import to_array
from blemish.errors import UnknownNameError
from blemish.images import Picture
from blemish.language import Vocabulary, general
from blemish.methods.base import Features, Method
from blemish.methods.text_cache import TextCache
from blemish.metrics import Value
from blemish.metrics.values import with_interval
from blemish.models.load import load_method
from blemish.synthesis import HELD_OUT_SEEDS, RENDERER_VERSION
from blemish.synthesis.benign import camera
from blemish.synthesis.placing import draw_defect
from blemish.synthesis.recipes import parse_types
from blemish.synthesis.scenery import good_subject

CONTRAST = (0.06, 0.12)  # of both defects: plain to see, within what every type can have
SIZE = (0.1, 0.6)  # within what the types allow, so that two fit into a picture
APART_PX = 16  # two places of the grid
SCENES_A_PICTURE = 50
ROUNDS = 1000

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """A picture [n, n, 3] with a defect of each of two types, and where they are [n, n] each."""

    image: NDArray[np.uint8]
    types: tuple[str, str]
    masks: tuple[Mask, Mask]


@dataclass(frozen=True)
class Answer:
    """What the words did in one picture: `leads` for both orders, `raised` for both together."""

    types: tuple[str, str]
    leads: tuple[bool, bool]
    raised: bool


def rendered_pair(types: tuple[str, str], seed: int, *, size_px: int = 224) -> Pair | None:
    """A scene with both defects, their masks `APART_PX` apart; None where they do not fit into the scene of this seed."""
    rng = np.random.default_rng((RENDERER_VERSION, seed))  # the scenes of `render`
    subject = good_subject(size_px, rng)
    first = draw_defect(subject, rng, defect_type=types[0], contrast=CONTRAST, size=SIZE)
    if first is None:
        return None
    second = draw_defect(replace(subject, pixels=first.pixels), rng, defect_type=types[1], contrast=CONTRAST, size=SIZE)
    if second is None or (ndimage.distance_transform_edt(~first.mask)[second.mask] < APART_PX).any():
        return None
    return Pair(camera(second.pixels, rng), types, (first.mask, second.mask))


def rendered_pairs(types: Sequence[str], images: int, *, first_seed: int = HELD_OUT_SEEDS) -> Iterator[Pair]:
    """So many pictures for each pair of types, fewer where no scene takes both; no seed is used twice."""
    for number, pair in enumerate(combinations(types, 2)):
        found = 0
        start = first_seed + number * images * SCENES_A_PICTURE
        for seed in range(start, start + images * SCENES_A_PICTURE):
            # which one is drawn first must not favour it
            order = pair if seed % 2 == 0 else pair[::-1]
            drawn = rendered_pair(order, seed)
            if drawn is not None:
                yield drawn
                found += 1
            if found == images:
                break


def shares(mask: Mask, grid: tuple[int, int]) -> NDArray[np.float64]:
    """How much of each cell of a grid lies in the mask, as weights that sum to 1."""
    rows, columns = grid
    height, width = mask.shape
    cells = mask.reshape(rows, height // rows, columns, width // columns).mean(axis=(1, 3), dtype=np.float64)
    return cells / cells.sum()


def balances(maps: NDArray[np.float32], masks: tuple[Mask, Mask]) -> NDArray[np.float64]:
    """Of each map [T, h, w]: its mean over the first mask less its mean over the second, [T]."""
    first, second = (shares(mask, (maps.shape[1], maps.shape[2])) for mask in masks)
    return np.einsum("thw,hw->t", maps.astype(np.float64), first - second)


def answer(types: tuple[str, str], balance: tuple[float, float]) -> Answer:
    """`balance`: that of the map read for the first type, and of the one read for the second."""
    return Answer(types, (balance[0] > 0, balance[1] < 0), balance[0] > balance[1])


def shuffled(types: tuple[str, str], names: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """Two other names, those that a permutation of all gives the two types."""
    others = [name for name in names if name not in types]
    first, second = rng.permutation(len(others))[:2]
    return others[first], others[second]


class Asked:
    """A method's typed maps by vocabulary."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self._cache = TextCache()
        self._known = {defect.name: defect for defect in general().types}

    @torch.inference_mode()
    def __call__(self, features: Features, names: tuple[str, ...]) -> NDArray[np.float32]:
        """The maps [T, h, w] of one picture."""
        vocabulary = Vocabulary(tuple(self._known[name] for name in names))
        texts = self.method.encode_texts(vocabulary, cache=self._cache)
        maps: NDArray[np.float32] = self.method.score(features, texts).type_maps[0].float().numpy()
        return maps


def ask(asked: Asked, pairs: Sequence[Pair], features: Sequence[Features], *, alone: bool) -> list[list[Answer]]:
    """The answers by the right words and by shuffled ones; alone: only the two names are asked for, else all."""
    every, rng = tuple(general().names), np.random.default_rng(0)
    found: list[list[Answer]] = [[], []]
    for pair, seen in zip(pairs, features, strict=True):
        for number, words in enumerate((pair.types, shuffled(pair.types, every, rng))):
            names = tuple(sorted(words)) if alone else every
            balance = balances(asked(seen, names), pair.masks)
            own = (float(balance[names.index(words[0])]), float(balance[names.index(words[1])]))
            found[number].append(answer(pair.types, own))
    return found


def rate(outcomes: NDArray[np.float64], *, seed: int = 0) -> Value:
    """The mean over pictures [n], with its bootstrap interval over them."""
    rng = np.random.default_rng(seed)
    again = np.array([outcomes[rng.integers(len(outcomes), size=len(outcomes))].mean() for _ in range(ROUNDS)])
    return with_interval(Value(value=float(outcomes.mean())), again)


def _line(words: str, answers: Sequence[Answer]) -> str:
    leads = rate(np.array([np.mean(one.leads) for one in answers]))
    raised = rate(np.array([float(one.raised) for one in answers]))
    return f"| {words} | {len(answers)} | {leads} | {raised} |"


def by_type(answers: Sequence[Answer], types: Sequence[str]) -> str:
    """How often each type's word leads at its own place."""
    lines = ["| asked for | pictures | leads |", "|---|---|---|"]
    for name in types:
        own = [float(one.leads[one.types.index(name)]) for one in answers if name in one.types]
        lines.append(f"| {name} | {len(own)} | {rate(np.array(own))} |" if own else f"| {name} | 0 | not drawn |")
    return "\n".join(lines)


@torch.inference_mode()
def encoded(method: Method, pair: Pair) -> Features:
    return method.encode(
        torch.from_numpy(to_array(Picture(pair.image, "pair"), method.backbone.config.preprocess))[None]
    )


def tables(method: Method, pairs: Sequence[Pair], types: Sequence[str]) -> str:
    """The rates of one method, overall and by type."""
    features, asked = [encoded(method, pair) for pair in pairs], Asked(method)
    found = {alone: ask(asked, pairs, features, alone=alone) for alone in (True, False)}
    lines = [f"{method.name}: {len(types)} types, {len(pairs)} pictures", ""]
    lines += ["| asked for | pictures | leads (95 %) | raised (95 %) |", "|---|---|---|---|"]
    for alone, said in ((True, "the two"), (False, "all types")):
        right, other = found[alone]
        lines += [_line(said, right), _line(f"{said}, words shuffled", other)]
    return "\n".join([*lines, "", "The two asked for:", "", by_type(found[True][0], types), ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.words_matter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--method", default=None, help="one, or several with commas between them; else the backbone's own"
    )
    parser.add_argument("--backbone", default="embedded")
    parser.add_argument("--prompts", default=None)
    parser.add_argument("--images", type=int, default=4, help="pictures of each pair of types")
    parser.add_argument("--types", help="those of which pairs are drawn, with commas between them; else all")
    settings = parser.parse_args()
    try:
        types = parse_types(settings.types)
    except UnknownNameError as error:
        parser.error(str(error))
    if len(types) < 2 or settings.images < 1:
        parser.error("a pair needs two types, and each pair a picture: --types A,B and --images from 1 on")
    pairs = list(rendered_pairs(types, settings.images))
    for name in (settings.method or "").split(","):
        loaded = load_method(settings.backbone, method=name.strip() or None, prompts=settings.prompts)
        print(tables(loaded.method.eval(), pairs, types), flush=True)


if __name__ == "__main__":
    main()
