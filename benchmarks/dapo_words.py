"""How far a typed map moves when a defect is called by another word: `python -m benchmarks.dapo_words [--images 300]`.

On held-out renders of each type, with the prompts that ship. The type's name is replaced by each of its synonyms in turn, and by
the name of every other type of the vocabulary (which then leaves it, as no word may stand twice). A map moves by the mean
absolute difference over all places of the image, relative to the mean of the map before. The words that the issue names come
first. `--method` takes any method that names types, `--prompts` other prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.io.prefetch import in_chunks
from blemish.io.progress import Reporter
from blemish.language import DefectType, Vocabulary, general
from blemish.methods.base import Features, Method, Texts
from blemish.methods.text_cache import TextCache
from blemish.models.feature_cache import feature_store
from blemish.models.load import load_method
from blemish.synthesis import HELD_OUT_SEEDS, drawn
from blemish.training.batches import Source, cache_features
from blemish.training.examples import Examples, examine

ASKED = (("crack", "fissure"), ("stain", "discolouration"))
BATCH = 16


@dataclass(frozen=True)
class Renamed:
    """What happened to the map of a type on its own images, each [n] in shares of the map: by synonym, by other type."""

    type: str
    by_synonym: dict[str, NDArray[np.float64]]
    by_other: dict[str, NDArray[np.float64]]

    def line(self) -> str:
        synonyms = np.array(list(self.by_synonym.values()))  # [synonyms, n]
        others = np.array(list(self.by_other.values()))
        less = float((synonyms[:, None] < others[None]).mean())
        nearest = min(self.by_other, key=lambda name: float(self.by_other[name].mean()))
        return (
            f"| {self.type} | {synonyms.shape[1]} | {synonyms.mean():.2f} | {others.mean():.2f} | "
            f"{nearest} {self.by_other[nearest].mean():.2f} | {100 * less:.0f} % |"
        )


def renamed(vocabulary: Vocabulary, old: str, new: str) -> Vocabulary:
    """The bare names, with `new` in the place of `old`; a type that is called `new` already leaves."""
    return Vocabulary(tuple(DefectType(new if name == old else name) for name in vocabulary.names if name != new))


def map_of(method: Method, features: Features, texts: Texts, name: str) -> NDArray[np.float32]:
    """The map of one type [B, h, w]."""
    found: NDArray[np.float32] = method.score(features, texts).type_maps[:, texts.types.index(name)].float().numpy()
    return found


@torch.inference_mode()
def measure(method: Method, examples: Examples, source: Source, defect: DefectType) -> Renamed:
    """Renames one type, on its own images."""
    names = general()
    bare = Vocabulary(tuple(DefectType(name) for name in names.names))
    others = [name for name in names.names if name != defect.name]
    new = [*defect.synonyms, *others]
    cache = TextCache()
    plain = method.encode_texts(bare, cache=cache)
    changed = {word: method.encode_texts(renamed(bare, defect.name, word), cache=cache) for word in new}
    moved: dict[str, list[NDArray[np.float64]]] = {word: [] for word in new}
    for features in batches(method, examples, source, defect.name):
        before = map_of(method, features, plain, defect.name)
        for word, texts in changed.items():
            difference = np.abs(map_of(method, features, texts, word) - before).mean(axis=(1, 2), dtype=np.float64)
            moved[word].append(difference / before.mean(axis=(1, 2), dtype=np.float64))
    joined = {word: np.concatenate(parts) for word, parts in moved.items()}
    return Renamed(
        defect.name, {word: joined[word] for word in defect.synonyms}, {word: joined[word] for word in others}
    )


def batches(method: Method, examples: Examples, source: Source, name: str) -> Iterator[Features]:
    rows = np.flatnonzero(examples.type_ids == examples.types.index(name) + 1)
    for batch in source.feed(in_chunks(rows, BATCH)):
        yield batch.features(method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="held-out renders, with and without defects")
    parser.add_argument("--method", default="dapo")
    parser.add_argument("--prompts", default=None)
    settings = parser.parse_args()
    method = load_method("embedded", method=settings.method, prompts=settings.prompts).method.eval()
    store, preprocess = feature_store(method, dtype="float16"), method.backbone.config.preprocess
    examples = examine(drawn(settings.images, first_seed=HELD_OUT_SEEDS), size=preprocess.size, store=store)
    cache_features(method, [examples], store, device=torch.device("cpu"), reporter=Reporter())
    source = Source(examples, preprocess, store)
    found = {
        defect.name: measure(method, examples, source, defect)
        for defect in general().types
        if defect.name in examples.types and defect.synonyms
    }
    for old, new in ASKED:
        one = found[old]
        by = {**one.by_synonym, **one.by_other}
        rest = np.mean([values.mean() for word, values in one.by_other.items() if word != new])
        print(f"{old} -> {new}: its map moves by {by[new].mean():.2f} of itself; other types {rest:.2f}")
    print("\n| type | images | by a synonym | by another type | the nearest other type | synonym moves it less |")
    print("|---|---|---|---|---|---|")
    for one in found.values():
        print(one.line())
    synonyms = np.concatenate([np.array(list(one.by_synonym.values())).ravel() for one in found.values()])
    others = np.concatenate([np.array(list(one.by_other.values())).ravel() for one in found.values()])
    less = np.mean(
        [
            (np.array(list(one.by_synonym.values()))[:, None] < np.array(list(one.by_other.values()))[None]).mean()
            for one in found.values()
        ]
    )
    print(
        f"| all | {int((examples.type_ids > 0).sum())} | {synonyms.mean():.2f} | {others.mean():.2f} | | {100 * less:.0f} % |"
    )


if __name__ == "__main__":
    main()
