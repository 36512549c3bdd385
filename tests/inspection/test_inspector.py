"""The inspector: order, batches, threads, errors and value ranges; one way for one image and for many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blemish.drawing.overlay import region_words
from blemish.errors import ImageError, UnknownNameError, UsageError
from blemish.images import save
from blemish.inspection import inspector as pipeline
from blemish.inspection import loader as intake
from blemish.inspection.inspector import Inspected
from blemish.results import UNKNOWN, Thresholds, Verdict
from fakes import DarknessEngine, darkness_inspector


def grey(value: int, *, side: int = 64) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, np.uint8)


def spotted(*, left: bool, side: int = 128) -> NDArray[np.uint8]:
    image = grey(255, side=side)
    x = side // 8 if left else side * 5 // 8
    image[side // 4 : side // 2, x : x + side // 4] = 0
    return image


def test_one_image_gives_one_inspection(tmp_path: Path) -> None:
    path = save(spotted(left=True), tmp_path / "a.png")
    inspector = darkness_inspector()
    data = path.read_bytes()
    for item in (
        path,
        str(path),
        data,
        bytearray(data),
        memoryview(data),
        spotted(left=True),
        Image.fromarray(spotted(left=True)),
    ):
        result = inspector.inspect(item)
        assert result.verdict is Verdict.NG
        assert result.image_score == pytest.approx(1, abs=0.1)
    assert inspector.inspect(path).source == path.as_posix()


def test_regions_are_located_and_typed_in_original_pixels() -> None:
    (region,) = darkness_inspector().inspect(spotted(left=False, side=256)).regions
    assert region.type == "stain"
    assert region.type_probability == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(region.box_px, (160, 64, 224, 128), atol=8)
    assert region.area_px == pytest.approx(64 * 64, rel=0.2)


def test_verdicts_come_from_the_image_score_alone() -> None:
    inspector = darkness_inspector()
    verdicts = [inspector.inspect(grey(value)).verdict for value in (255, 140, 20)]
    assert verdicts == [Verdict.OK, Verdict.REVIEW, Verdict.NG]


def test_a_list_gives_a_list_in_order_and_in_batches() -> None:
    inspector = darkness_inspector(batch_size=4, workers=3)
    values = list(range(0, 250, 25))
    results = inspector.inspect([grey(value) for value in values])
    assert [round(255 - 255 * result.image_score) for result in results] == values
    assert isinstance(inspector.engine, DarknessEngine)
    assert inspector.engine.batches == [4, 4, 2]


def test_batches_change_no_result() -> None:
    images = [spotted(left=bool(i % 2), side=40 + 7 * i) for i in range(5)]
    together = darkness_inspector(batch_size=5).inspect(images)
    alone = [darkness_inspector().inspect(image) for image in images]
    for one, other in zip(together, alone, strict=True):
        assert one.regions == other.regions
        np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)


def test_an_empty_list_gives_an_empty_list() -> None:
    assert darkness_inspector().inspect([]) == []


def test_an_iterator_is_consumed_lazily_and_never_far_ahead() -> None:
    taken: list[int] = []

    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            taken.append(1)
            yield grey(100)

    results = darkness_inspector(batch_size=2, workers=2).inspect(endless())
    assert taken == []
    for number in range(6):
        assert next(results).verdict is Verdict.NG
        assert len(taken) == number // 2 * 2 + 2  # its batch, and nothing beyond
    results.close()


def test_a_camera_that_refills_its_only_buffer_is_read_frame_by_frame() -> None:
    def frames() -> Iterator[NDArray[np.uint8]]:
        buffer = grey(0)
        for value in range(0, 240, 10):
            buffer[:] = value
            yield buffer

    scores = [result.image_score for result in darkness_inspector(batch_size=4).inspect(frames())]
    np.testing.assert_allclose(scores, [1 - value / 255 for value in range(0, 240, 10)], atol=1e-6)


def test_a_camera_with_batches_of_one_has_no_lag() -> None:
    taken: list[int] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        for number in range(5):
            taken.append(number)
            yield grey(number)

    for number, _ in enumerate(darkness_inspector(batch_size=1).inspect(frames())):
        assert len(taken) == number + 1


def test_stopping_early_leaves_no_threads() -> None:
    results = darkness_inspector(batch_size=2).inspect(grey(1) for _ in range(50))
    next(results)
    results.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("blemish")]


def test_large_pictures_are_not_read_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.inspection.loader.MEMORY_AHEAD", 1)
    taken: list[int] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for i in range(20):
            taken.append(i)
            yield grey(100)

    inspector = darkness_inspector(batch_size=8, workers=2)
    results = inspector.inspect(images())
    for i in range(10):
        next(results)
        assert len(taken) <= i + 6
    assert inspector.engine.batches[0] == 1


@pytest.mark.parametrize("deep_images", [False, True])
def test_large_pictures_are_decoded_one_by_one_from_the_first(
    deep_images: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.inspection.loader.MEMORY_AHEAD", 1)
    under_way: list[int] = []
    decode, lock, never = intake.decode, threading.Lock(), threading.Event()

    def watched(*args: Any, **options: Any) -> Any:
        with lock:
            under_way.append(1)
        never.wait(0.02)  # leaves the other threads the time to do wrong
        assert len(under_way) == 1
        with lock:
            under_way.pop()
        return decode(*args, **options)

    monkeypatch.setattr(intake, "decode", watched)
    images = [deep(5000) if deep_images else grey(9)] * 6
    assert len(darkness_inspector(workers=4).inspect(images)) == 6


# errors


def test_a_single_bad_image_raises(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.png: no such file"):
        darkness_inspector().inspect(tmp_path / "missing.png")


def test_bad_images_in_a_batch_raise_are_skipped_or_stand_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("text")
    batch = [grey(1), tmp_path / "bad.png", grey(2)]
    inspector = darkness_inspector()
    with pytest.raises(ImageError, match=r"bad\.png"):
        inspector.inspect(batch)
    assert len(inspector.inspect(batch, on_error="skip")) == 2
    first, second, third = inspector.inspect(batch, on_error="record")
    assert isinstance(second, ImageError)
    assert not isinstance(first, ImageError)
    assert not isinstance(third, ImageError)
    with pytest.raises(UnknownNameError, match="did you mean 'skip'"):
        inspector.inspect(batch, on_error="skips")  # type: ignore[call-overload]


def test_a_batch_of_bad_images_only_has_no_results(tmp_path: Path) -> None:
    assert darkness_inspector().inspect([tmp_path / "a.png", tmp_path / "b.png"], on_error="skip") == []


def test_arrays_in_a_batch_are_named_by_their_number() -> None:
    batch = [grey(1), np.zeros((4, 5, 6), np.uint8)]
    with pytest.raises(ImageError, match=r"array 1: an array must be"):
        darkness_inspector().inspect(batch)


@pytest.mark.parametrize("bad", [5, None, [5]])
def test_what_is_no_image_is_refused(bad: object) -> None:
    with pytest.raises(UsageError, match="a tensor or a Pillow image, not"):
        darkness_inspector().inspect(bad)  # type: ignore[call-overload]


@pytest.mark.parametrize(("module", "step"), [(intake, "to_array"), (pipeline, "find_regions")])
def test_an_image_that_does_not_fit_into_memory_is_recorded(
    module: ModuleType, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, calls = getattr(module, step), []

    def refuse_the_first(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return work(*args, **options)

    monkeypatch.setattr(module, step, refuse_the_first)
    bad, good = darkness_inspector(workers=1).inspect([grey(1), grey(2)], on_error="record")
    assert isinstance(bad, ImageError)
    assert "array 0: does not fit into memory" in str(bad)
    assert not isinstance(good, ImageError)


def test_an_error_of_the_model_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    inspector = darkness_inspector()
    monkeypatch.setattr(inspector.engine, "score", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inspector.inspect([grey(1)])


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"max_megapixels": 0}, {"value_range": (3, 3)}],
)
def test_senseless_options_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        darkness_inspector(**options)


# value ranges


def deep(maximum: int) -> NDArray[np.uint16]:
    array = np.zeros((16, 16), np.uint16)
    array[:8] = maximum
    return array


def test_deep_images_of_a_list_share_one_range() -> None:
    results = darkness_inspector().inspect([deep(500), deep(5000), grey(9)])
    assert [result.value_range for result in results] == [(0, 16383), (0, 16383), None]


def test_in_an_iterator_the_first_deep_image_sets_the_range_whatever_the_threads_do() -> None:
    for _ in range(5):
        outcomes = list(darkness_inspector(workers=4).inspect((deep(m) for m in (1000, 5000, 20)), on_error="record"))
        assert [getattr(outcome, "value_range", None) for outcome in outcomes] == [(0, 1023), None, (0, 1023)]
        assert "value_range" in str(outcomes[1])


def test_a_given_range_is_used_and_reported() -> None:
    results = darkness_inspector(value_range=(0, 40000)).inspect([deep(500), deep(50000)])
    assert [result.value_range for result in results] == [(0, 40000)] * 2


def test_percentiles_are_one_range_for_all_images_of_a_list() -> None:
    images = [np.linspace(low, high, 1001, dtype=np.uint16).reshape(7, 143) for low, high in ((100, 1100), (500, 2500))]
    results = darkness_inspector(value_range=("1%", "99%")).inspect([*images, grey(9)])
    assert [result.value_range for result in results] == [(110, 2480), (110, 2480), None]


def test_percentiles_of_an_iterator_are_those_of_its_first_deep_image() -> None:
    results = list(darkness_inspector(value_range=("0%", "100%")).inspect(deep(m) for m in (1000, 5000)))
    assert [result.value_range for result in results] == [(0, 1000), (0, 1000)]


def test_a_range_in_percentiles_is_not_known_before_the_images() -> None:
    assert darkness_inspector(value_range=("1%", "99%")).setup.value_range is None
    assert darkness_inspector(value_range=(5, 99)).setup.value_range == (5, 99)


def test_an_image_has_the_type_of_its_highest_region_and_without_one_that_of_its_scores() -> None:
    clear, mixed = spotted(left=True), spotted(left=True) & spotted(left=False)
    first, second = darkness_inspector(min_lead=0.6).inspect([clear, mixed])
    assert first.top_type == first.to_dict()["top_type"] == "scratch"
    assert {region.type for region in second.regions} == {"scratch", "stain"}  # each of them is clear
    assert second.top_type == second.regions[0].type
    without = replace(second, regions=())
    assert (without.top_type, replace(without, min_lead=0.0).top_type) == (UNKNOWN, "scratch")


def test_an_unsure_region_says_its_best_guess() -> None:
    (region,) = darkness_inspector(min_lead=0.95).inspect(spotted(left=True)).regions
    assert (region.type, region.best_guess) == (UNKNOWN, "scratch")
    assert region_words(region) == "unknown (scratch? 90 %), anomaly 0.98"


def test_an_image_that_is_not_ok_shows_where_it_scored_highest() -> None:
    thresholds = Thresholds(image=0.4, pixel=0.99)
    dim = np.full((64, 64, 3), 255, np.uint8)
    dim[16:32, 16:32] = 100  # a score of 0.6
    result = darkness_inspector(thresholds=thresholds).inspect(dim)
    assert result.verdict is Verdict.NG
    assert [region.box_px for region in result.regions] == [(18, 18, 30, 30)]
    assert result.region_threshold == result.map_peak
    assert result.mask().sum() == result.regions[0].area_px
    assert not darkness_inspector(thresholds=Thresholds(image=0.9, pixel=0.99)).inspect(dim).regions


def test_an_inspection_is_short_in_words_and_a_picture_in_a_notebook(tmp_path: Path) -> None:
    path = save(spotted(left=True), tmp_path / "a.png")
    for image in (path, spotted(left=True)):
        result = darkness_inspector().inspect(image)
        assert len(repr(result)) < 300
        assert "NG, image score 0.984, scratch, 1 region" in repr(result)
        assert '<img src="data:image/png;base64,' in result._repr_html_()
        with Image.open(result.save(tmp_path / "overlay.png")) as overlay:
            assert overlay.size == (128, 128)
    listed = darkness_inspector().inspect([spotted(left=True)])[0]
    assert "<img" not in listed._repr_html_()  # of several images, the pictures are not kept
    with pytest.raises(UsageError, match="the image is not at hand"):
        listed.overlay()


def test_the_stream_gives_the_pictures_too() -> None:
    (outcome,) = darkness_inspector().stream([grey(7)])
    assert isinstance(outcome, Inspected)
    np.testing.assert_array_equal(outcome.picture.pixels, grey(7))


def test_one_pixel_is_inspected() -> None:
    result = darkness_inspector().inspect(np.zeros((1, 1), np.uint8))
    assert result.map_at_original().shape == (1, 1)
    assert result.regions[0].box_px == (0, 0, 1, 1)
