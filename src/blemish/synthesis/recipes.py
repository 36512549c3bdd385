"""What a synthetic data set is made of: its recipe, and the plan of every picture in it, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from blemish.data.entries import known_sets
from blemish.errors import UnknownNameError, UsageError
from blemish.synthesis.damage import KINDS
from blemish.synthesis.fields import Random
from blemish.synthesis.placing import CONTRASTS
from blemish.synthesis.survey import Good

__all__ = [
    "Item",
    "SynthesisRecipe",
    "Task",
    "check_product",
    "is_folder_name",
    "parse_types",
    "plan",
    "plan_procedural",
    "product_name",
]

Thing = TypeVar("Thing")
GENERIC = frozenset({"good", "ok", "normal", "train", "test", "images", "img", "data", "photos", "pictures", ""})
CHUNK = 8  # rendered pictures of a task
TRAIN_GOOD, TEST_GOOD = 0.2, 0.2  # shares of a procedural set


@dataclass(frozen=True)
class SynthesisRecipe:
    """How pictures are made."""

    types: tuple[str, ...] = tuple(KINDS)  # to draw from, all alike often
    contrast: tuple[float, float] = CONTRASTS  # range of the mean absolute change inside the mask, 0..1
    extent: tuple[float, float] = (0.0, 1.0)  # range of the defect's extent within what its type allows, 0..1
    seed: int = 0
    benign: bool = False  # vary light, noise, blur and compression, of good and defective pictures alike
    train_share: float = 0.5  # of the good images, copied to train/good; defects are drawn on the others
    size_px: int = 256  # side of procedural pictures

    def __post_init__(self) -> None:
        for name, (low, high) in (("contrast", self.contrast), ("extent", self.extent)):
            if not 0 <= low <= high <= 1:
                raise UsageError(f"{name} is a range within 0 to 1, LOW:HIGH, not {low:g}:{high:g}")
        if self.contrast[1] < 0.004:
            raise UsageError("a contrast below 0.004 cannot be stored with 8 bits")
        if not 0 <= self.train_share < 1:
            raise UsageError(f"the share of good images for training is from 0 to below 1, not {self.train_share:g}")
        if not 64 <= self.size_px <= 4096:
            raise UsageError(f"procedural pictures have sides of 64 to 4096 px, not {self.size_px}")
        if self.seed < 0:
            raise UsageError(f"the seed is a number from 0 on, not {self.seed}")


@dataclass(frozen=True)
class Item:
    """One picture of the set: its number, its split, and the type that is asked for ("" for a good one). varied: see benign."""

    index: int
    split: str
    asked: str = ""
    varied: bool = False


@dataclass(frozen=True)
class Task:
    """Pictures that are made from one good image; from nothing where there is no source."""

    items: tuple[Item, ...]
    source: Good | None = None


def parse_types(defects: str | None) -> tuple[str, ...]:
    """The types named in "scratch, hole", all where nothing is named; UnknownNameError lists the known ones."""
    if defects is None:
        return tuple(KINDS)
    known = {name.lower(): name for name in KINDS}
    types = []
    for word in defects.split(","):
        name = " ".join(word.replace("_", " ").split())
        if name.lower() not in known:
            raise UnknownNameError("defect type", name, KINDS)
        types.append(known[name.lower()])
    return tuple(dict.fromkeys(types))


def product_name(folder: str, above: Sequence[str] = ()) -> str:
    """The product that good images in this folder show: the folder, or the nearest one `above` that says more than "good".

    A product of a known data set gets an ending, so that nobody takes the synthetic set for that one.
    """
    name = next((part for part in (folder, *above) if part.lower() not in GENERIC), "product")
    products = {product.lower() for known in known_sets() for product in known.products}
    return f"{name}-synthetic" if name.lower() in products else name


def is_folder_name(name: str) -> bool:
    return name.strip() not in ("", ".", "..") and not any(character in name for character in "/\\:\0")


def check_product(name: str) -> None:
    """UsageError where this is no name of one folder: pictures are written, and replaced, below it."""
    if not is_folder_name(name):
        raise UsageError(f"a product is the name of one folder, without separators, not {name!r}")


def plan(
    good: Sequence[Good], recipe: SynthesisRecipe, *, count: int | None, per_image: int | None
) -> tuple[Task, ...]:
    """The pictures of a set from good images: `count` defective ones in all, or `per_image` on each good image of the test part;
    by default ten of each type."""
    rng = np.random.default_rng((recipe.seed, 1))
    order = [good[index] for index in rng.permutation(len(good))]
    trained = min(int(len(order) * recipe.train_share), len(order) - 1)
    tested = order[trained:]
    wanted = count if count is not None else 10 * len(recipe.types)
    if per_image is not None:
        wanted = per_image * len(tested)
    _check_count(wanted)
    tasks = [Task((Item(index, "train"),), source) for index, source in enumerate(order[:trained])]
    pictures: dict[str, list[Item]] = {source.path: [] for source in tested}
    index = trained
    for source in tested:
        pictures[source.path].append(Item(index, "test"))
        index += 1
    types, sources = _cycle(recipe.types, wanted, rng), _cycle(tested, wanted, rng)
    for defect_type, source in zip(types, sources, strict=True):
        pictures[source.path].append(Item(index, "test", defect_type, recipe.benign))
        index += 1
        if recipe.benign:
            pictures[source.path].append(Item(index, "test", "", varied=True))
            index += 1
    return (*tasks, *(Task(tuple(pictures[source.path]), source) for source in tested))


def plan_procedural(count: int, recipe: SynthesisRecipe) -> tuple[Task, ...]:
    """The `count` pictures of a set from nothing: a fifth good for training, a fifth good for the test, the rest defective."""
    _check_count(count)
    rng = np.random.default_rng((recipe.seed, 2))
    trained, tested = int(count * TRAIN_GOOD), int(count * TEST_GOOD)
    items = [Item(index, "train") for index in range(trained)]
    items += [Item(trained + index, "test") for index in range(tested)]
    types = _cycle(recipe.types, count - len(items), rng)
    items += [Item(trained + tested + index, "test", defect_type) for index, defect_type in enumerate(types)]
    return tuple(Task(tuple(items[start : start + CHUNK])) for start in range(0, count, CHUNK))


def _cycle(things: Sequence[Thing], count: int, rng: Random) -> list[Thing]:
    """`count` of the things, each as often as any other or once more, in an order that repeats nothing."""
    drawn: list[Thing] = []
    while len(drawn) < count:
        drawn += [things[index] for index in rng.permutation(len(things))]
    return drawn[:count]


def _check_count(count: int) -> None:
    if not 1 <= count <= 1_000_000:
        raise UsageError(f"a set has 1 to 1,000,000 pictures with defects, not {count:,}")
