"""What the images of an evaluation are compared with: whose references, at which size, and what was left out of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import candidate, data_set

from blemish.data.samples import DataSet
from blemish.engines.base import Engine
from blemish.errors import ImageError, UsageError
from blemish.evaluation import Evaluation, EvaluationSettings, evaluate_candidate
from blemish.images import Picture, save
from memory_engine import MemoryEngine
from probe import ArraySample


class Comparing(MemoryEngine):
    """Remembers whatever it is compared with; says that images are as unlike each other as it was told."""

    method = "faprompt"  # one that evaluations know
    unlike: float | None = 0.1
    sizes: tuple[int, ...] = ()  # how many references there were, each time
    sides: frozenset[int] = frozenset()  # of the images that were encoded

    def with_references(self, images: Iterable[NDArray[np.float32]], *, good: bool = False) -> Engine:
        del good
        batches = list(images)
        Comparing.sizes += (sum(map(len, batches)),)
        return self.with_memory(self.remember(batches))

    def comparing_at(self, input_px: int) -> Engine:
        other = Comparing(backbone=self.model.backbone)
        other.input = replace(self.input, size=input_px)
        return other

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        Comparing.sides |= {images.shape[-1]}
        return super().encode(images if images.shape[-1] == 64 else images.repeat(2, axis=2).repeat(2, axis=3))

    def unlikeness(self, images: NDArray[np.float32]) -> float | None:
        del images
        return self.unlike


@pytest.fixture(autouse=True)
def comparing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Comparing, "unlike", 0.1)
    monkeypatch.setattr(Comparing, "sizes", ())
    monkeypatch.setattr(Comparing, "sides", frozenset())
    monkeypatch.chdir(tmp_path)


def measured(data: DataSet | None = None, *, threshold: float | None = None, **settings: object) -> Evaluation:
    chosen = replace(candidate(Comparing()), image_threshold=threshold)
    quick = EvaluationSettings(rounds=0, batch_size=5, **settings)  # type: ignore[arg-type]
    return evaluate_candidate(chosen, data or data_set(), out=Path("out"), settings=quick)[0]


def test_what_was_not_taken_of_the_references_is_in_the_notes_also_when_the_evaluation_goes_on() -> None:
    save(np.full((40, 48, 3), 200, np.uint8), Path("good/one.png"))
    Path("good/two.png").write_bytes(b"no picture")
    Path("good/film.mp4").write_bytes(b"x")
    for _ in range(2):  # the second time everything is counted
        notes = measured(good_references="good").notes
        assert any("references: left out: 1 file (.mp4 1)" in note for note in notes), notes
        assert any(note.startswith("references: unreadable: good/two.png") for note in notes)
    assert Comparing.sizes[:1] == (1,)


def test_each_product_may_have_references_of_its_own() -> None:
    for product, count in (("thing", 1), ("other", 2)):
        for number in range(count):
            save(np.full((40, 48, 3), 200 + number, np.uint8), Path(product, "good", f"{number}.png"))
        Path(product, "good", "bad.png").write_bytes(b"no picture")
    found = measured(data_set(products=("thing", "other")), good_references="{product}/good")
    assert Comparing.sizes[:2] == (1, 2)
    assert sum("unreadable" in note for note in found.notes) == 2


def test_a_series_judges_itself_and_a_mixture_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("thing: the images are a series of one product" in note for note in measured(references="auto").notes)
    assert Comparing.sizes[0] == 12
    monkeypatch.setattr(Comparing, "unlike", 7.0)
    monkeypatch.setattr(Comparing, "sizes", ())
    mixed = measured(data_set(products=("other",)), references="auto")
    assert Comparing.sizes == ()
    assert any("other: the images are no series" in note and "each is looked at alone" in note for note in mixed.notes)


def test_too_few_images_or_mostly_defective_ones_are_looked_at_alone() -> None:
    few = measured(data_set(count=6), references="auto")
    assert any("too few to tell a series" in note for note in few.notes)
    bad = measured(threshold=0.0, references="auto")
    assert any("100% of 12 look defective" in note for note in bad.notes)
    assert Comparing.sizes == ()


def test_images_are_compared_at_the_size_that_was_asked_for() -> None:
    at_32 = measured(references="data", compare_px=32)
    assert at_32.settings["compare_px"] == 32
    assert Comparing.sides == {32}  # peers and what is compared with them
    measured(references="data")  # another evaluation
    assert Comparing.sides == {32, 64}
    with pytest.raises(UsageError, match="--compare-px goes with --peers or --references"):
        measured(compare_px=32)


def test_an_image_that_cannot_be_read_is_no_peer_and_ends_nothing() -> None:
    class Broken(ArraySample):
        def picture(self) -> Picture:
            raise ImageError(self.name, "is broken")

    data = data_set()
    first = data.samples[0]
    broken = Broken(first.name, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), False, "test", product="thing")
    found = measured(replace(data, samples=(broken, *data.samples[1:])), references="data")
    assert Comparing.sizes[0] == 11
    assert [record["error"] for record in found.unreadable] == [f"{first.name}: is broken"]
