"""The table of real sets: what cannot be measured says why, each set counts once, and a kept row is the same row."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.measure import Kept, Row, main, means, measure, over_seeds, side_by_side, table, verdicts
from benchmarks.real_sets import Comparison, Finding, Item

from blemish.data.files import MaskTruth
from blemish.metrics import Value


class Bright:
    """Calls bright images and bright pixels anomalous."""

    name = "bright"
    remark = "sees light"
    score_range = None

    def __init__(self) -> None:
        self.looked = 0

    def identity(self) -> str:
        return "bright"

    def absent(self, comparison: Comparison) -> str:
        return "" if comparison.items else "nothing here"

    def look(self, comparison: Comparison) -> Sequence[Finding]:
        self.looked += 1
        pixels = [np.asarray(Image.open(item.path), np.float32) for item in comparison.items]
        return [Finding(float(one.max()), one, one.shape[::-1]) for one in pixels]


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Three dark images and three with a bright square that is their mask."""
    rng, items = np.random.default_rng(0), []
    for number in range(6):
        pixels, path = rng.integers(0, 50, (16, 20), np.uint8), tmp_path / f"{number}.png"
        mask = np.zeros_like(pixels)
        if number >= 3:
            pixels[4:8, 5:9], mask[4:8, 5:9] = 200, 255
            Image.fromarray(mask).save(tmp_path / f"{number}-mask.png")
        Image.fromarray(pixels).save(path)
        truth = MaskTruth((tmp_path / f"{number}-mask.png",), threshold=127) if number >= 3 else None
        items.append(Item(path, number >= 3, truth))
    return Comparison("hazelnut toy", tuple(items), has_masks=True, set_name="hazelnut")


def row(name: str, set_name: str, *, image: float | None, pixel: float | None) -> Row:
    values = [Value(value=one, reason="" if one is not None else "no masks") for one in (image, pixel)]
    return Row("m", name, set_name, 1, 1, *values, {}, {}, {})


def test_a_set_without_normal_images_is_measured_by_its_pixels_alone(comparison: Comparison) -> None:
    only = Comparison("crackforest", comparison.items[3:], has_masks=True, set_name="crackforest")
    found = measure(only, Bright())
    assert found.image_auroc == Value(value=None, reason="no normal images")
    assert float(found.pixel_auroc) == 1
    assert "| crackforest | 0 / 3 | no normal images | 1.000" in table([found])


def test_what_a_method_cannot_do_says_why() -> None:
    found = measure(Comparison("empty", (), has_masks=True), Bright())
    assert (found.image_auroc.reason, found.pixel_auroc.reason) == ("nothing here", "nothing here")


def test_a_kept_row_is_the_same_row_and_not_measured_again(comparison: Comparison, tmp_path: Path) -> None:
    looker = Bright()
    first, again = (Kept(tmp_path / "rows")(comparison, looker) for _ in range(2))
    assert looker.looked == 1
    assert first == again
    assert first.image_auroc.replicates is not None
    assert again.image_auroc.replicates == pytest.approx(first.image_auroc.replicates)
    fewer = Comparison(comparison.name, comparison.items[1:], has_masks=True, set_name="hazelnut")
    Kept(tmp_path / "rows")(fewer, looker)
    assert looker.looked == 2


def test_each_set_counts_once_and_the_simulated_one_never() -> None:
    rows = [
        row("elpv mono", "elpv", image=0.8, pixel=None),
        row("elpv poly", "elpv", image=0.6, pixel=None),
        row("hazelnut colour", "hazelnut", image=1.0, pixel=0.9),
        row("magnetic tile Crack", "magnetic tile", image=0.4, pixel=0.7),
        row("conformal-clip local", "conformal-clip", image=0.0, pixel=None),
    ]
    image, pixel = means(rows)["mean over the sets"]
    assert float(image) == pytest.approx((0.7 + 1.0 + 0.4) / 3)
    assert float(pixel) == pytest.approx(0.8)
    assert pixel.without == ("crackforest", "kvasir")


def test_methods_stand_side_by_side_with_what_they_have_seen() -> None:
    rows = [row("hazelnut colour", "hazelnut", image=1.0, pixel=0.9)]
    text = side_by_side({"plain": rows, "memory": rows}, {"plain": "", "memory": "not zero-shot"})
    assert "| plain | memory (1) |" in text
    assert "| hazelnut colour | 1 / 1 | 1.000 | 1.000 |" in text
    assert text.endswith("(1) memory: not zero-shot.")


def test_verdicts_are_shares_and_shared_normal_images_stand_once() -> None:
    good, bad = {"ok": 3, "ng": 1}, {"review": 1}
    rows = [
        replace(row(name, "tile", image=0.5, pixel=0.5), verdicts_normal=good, verdicts_anomalous=bad) for name in "ab"
    ]
    assert verdicts(rows).splitlines()[2:] == [
        "| a | 75 % | 0 % | 25 % | 0 % | 100 % | 0 % |",
        "| b |  |  |  | 0 % | 100 % | 0 % |",
    ]
    assert verdicts([row("a", "tile", image=0.5, pixel=0.5)]) == ""


def test_seeds_stand_with_their_mean_and_standard_deviation() -> None:
    seeds = {
        "a": [row("elpv mono", "elpv", image=0.5, pixel=None), row("elpv poly", "elpv", image=0.7, pixel=None)],
        "b": [row("elpv mono", "elpv", image=0.7, pixel=None), row("elpv poly", "elpv", image=0.9, pixel=None)],
    }
    text = over_seeds(seeds)
    assert "| elpv, mean of the 2, image | 0.600 | 0.800 | 0.700 ± 0.141 |" in text
    assert "pixel" not in text


@pytest.mark.parametrize("more", [["--method", "dapo"], ["--alternatives"], ["elsewhere/a"]])
def test_seeds_that_cannot_be_told_apart_or_meant_otherwise_are_refused(
    more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["measure", "--seeds", "here/a", *more])
    with pytest.raises(SystemExit):
        main()
