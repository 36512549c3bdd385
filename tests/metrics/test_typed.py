"""Typed metrics against scikit-learn, and types that a product does not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from blemish.errors import UnknownNameError, UsageError
from blemish.metrics import ImageTypeAccumulator, PixelTypeAccumulator

TYPES = {"bottle": ("normal", "crack", "stain"), "cable": ("normal", "cut", "crack", "burn", "bent")}
DEFECTS = {product: names[1:] for product, names in TYPES.items()}
LEVELS = 4.0
Image = tuple[str, str, str, NDArray[np.float32], NDArray[np.bool_]]


def images() -> list[Image]:
    """Name, product, type, type maps [T, H, W] in 0..4 and mask; no cable is bent."""
    rng = np.random.default_rng(0)
    found = []
    for product, types in TYPES.items():
        for index in range(12):
            number = index % min(len(types), 4)
            mask = np.zeros((24, 30), bool)
            mask[4:12, 5 : 9 + index] = number > 0
            logits = rng.normal(size=(len(types), 24, 30))
            logits[0] += 1.5 * ~mask
            logits[number] += 1.5 * mask
            maps = LEVELS * np.exp(logits) / np.exp(logits).sum(0)
            found.append((f"{product}/{index}", product, types[number] * (number > 0), maps.astype(np.float32), mask))
    return found


def fed(chosen: list[Image]) -> PixelTypeAccumulator:
    accumulator = PixelTypeAccumulator(TYPES, score_range=(0, LEVELS))
    for name, product, defect_type, maps, mask in chosen:
        accumulator.add(maps, mask, name=name, product=product, defect_type=defect_type)
    return accumulator


@pytest.mark.parametrize("product", TYPES)
def test_pixels_equal_scikit_learn_per_type_and_on_average(product: str) -> None:
    types = TYPES[product]
    own = [image for image in images() if image[1] == product]
    labels = np.concatenate([np.where(mask, types.index(kind or "normal"), 0).ravel() for _, _, kind, _, mask in own])
    scores = np.concatenate([maps.reshape(len(types), -1) for *_, maps, _ in own], axis=1)
    found = next(one for one in fed(images()).report().products if one.row.name == product)
    shown = [index for index in range(len(types)) if (labels == index).any()]
    one_vs_rest = {
        "auroc": [roc_auc_score(labels == index, scores[index]) for index in shown],
        "ap": [average_precision_score(labels == index, scores[index]) for index in shown],
        "f1": list(f1_score(labels, scores.argmax(0), labels=shown, average=None)),
    }
    for metric, values in one_vs_rest.items():
        assert [float(found.types[index].values[metric]) for index in shown] == pytest.approx(values, abs=1e-4)
        assert float(found.row.values[metric]) == pytest.approx(np.mean(values), abs=1e-4)


def test_a_type_that_a_product_lacks_is_named_and_not_zero() -> None:
    report = fed(images()).report()
    cable = report.products[1]
    assert [row.name for row in cable.types] == list(TYPES["cable"])
    assert cable.types[4].values["f1"].reason == "no pixel of cable is 'bent'"
    assert {value.without for value in cable.row.values.values()} == {("bent",)}
    by_name = {row.name: row for row in report.types}
    assert by_name["bent"].values["ap"].reason.startswith("there is nothing to average")
    crack = [
        float(product.types[index].values["auroc"]) for product, index in zip(report.products, (1, 2), strict=True)
    ]
    assert float(by_name["crack"].values["auroc"]) == pytest.approx(np.mean(crack))
    macro = [float(product.row.values["f1"]) for product in report.products]
    assert float(report.mean.values["f1"]) == pytest.approx(np.mean(macro))


def test_pixel_counts_merge_and_resume_exactly(tmp_path: Path) -> None:
    everything = images()
    part, rest = fed(everything[::2]), fed(everything[::-2])
    part.merge(rest)
    assert part.report() == fed(everything).report()
    fed(everything[:7]).save(tmp_path / "types.npz")
    resumed = PixelTypeAccumulator.load(tmp_path / "types.npz")
    for name, product, defect_type, maps, mask in everything:
        if name not in resumed:
            resumed.add(maps, mask, name=name, product=product, defect_type=defect_type)
    assert resumed.report() == part.report()
    assert (resumed.confusion("cable") == part.confusion("cable")).all()
    assert part.confusion("cable").sum() == 12 * 24 * 30
    with pytest.raises(UsageError, match="in both"):
        part.merge(rest)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"product": "botle"}, UnknownNameError, "did you mean 'bottle'"),
        ({"defect_type": "crak"}, UnknownNameError, "did you mean 'crack'"),
        ({"defect_type": ""}, UsageError, "anomalous pixels need a defect type"),
        ({"type_maps": np.zeros((2, 24, 30))}, UsageError, r"3 types need maps \[3, H, W\]"),
        ({"type_maps": np.zeros((3, 24, 31))}, UsageError, "cannot be compared"),
        ({"type_maps": np.full((3, 24, 30), 5.0)}, UsageError, r"0\.\.4"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(change: dict[str, Any], error: type[Exception], words: str) -> None:
    name, product, defect_type, maps, mask = images()[1]
    accumulator = PixelTypeAccumulator(TYPES, score_range=(0, LEVELS))
    with pytest.raises(error, match=words):
        accumulator.add(
            **{"type_maps": maps, "mask": mask, "name": name, "product": product, "defect_type": defect_type} | change
        )
    assert len(accumulator) == 0


def scored(accumulator: ImageTypeAccumulator) -> ImageTypeAccumulator:
    """Four bottles, of which three are named right; two cables, both cut, one named right."""
    for name, defect_type, scores in (
        ("a", "crack", (0.9, 0.1)),
        ("b", "crack", (0.6, 0.4)),
        ("c", "crack", (0.2, 0.8)),
        ("d", "stain", (0.3, 0.7)),
    ):
        accumulator.add(scores, name=name, product="bottle", defect_type=defect_type)
    accumulator.add((0.7, 0.1, 0.1, 0.1), name="e", product="cable", defect_type="cut")
    accumulator.add((0.1, 0.7, 0.1, 0.1), name="f", product="cable", defect_type="cut")
    return accumulator


def test_image_types_by_hand() -> None:
    report = scored(ImageTypeAccumulator(DEFECTS)).report()
    bottle, cable = (product.row.values for product in report.products)
    assert (bottle["accuracy"].value, bottle["chance"].value, bottle["commonest"].value) == (0.75, 0.5, 0.75)
    assert (cable["accuracy"].value, cable["chance"].value, cable["commonest"].value) == (0.5, 0.25, 1.0)
    assert bottle["auroc"].value == pytest.approx(
        2 / 3
    )  # of crack: 0.9 and 0.6 above 0.3, 0.2 below; of stain likewise
    assert "show one type only" in cable["auroc"].reason
    assert bottle["f1"].value == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (1 + 2)) / 2)
    assert cable["f1"].without == ("crack", "burn", "bent")
    assert report.mean.values["accuracy"].value == 0.625
    assert report.mean.values["auroc"].without == ("cable",)
    assert {row.name: row.values["accuracy"].value for row in report.types} == {
        "crack": 2 / 3,
        "stain": 1.0,
        "cut": 0.5,
        "burn": None,
        "bent": None,
    }


def test_confusion_of_one_product_and_of_all() -> None:
    accumulator = scored(ImageTypeAccumulator(DEFECTS))
    names, counts = accumulator.confusion("bottle")
    assert (names, counts.tolist()) == (("crack", "stain"), [[2, 1], [0, 1]])
    names, counts = accumulator.confusion()
    assert names == ("crack", "stain", "cut", "burn", "bent")
    assert counts.sum() == 6
    assert counts[names.index("cut")].tolist() == [1, 0, 1, 0, 0]


def test_image_types_merge_and_resume(tmp_path: Path) -> None:
    accumulator = scored(ImageTypeAccumulator(DEFECTS))
    accumulator.save(tmp_path / "types.npz")
    assert ImageTypeAccumulator.load(tmp_path / "types.npz").report() == accumulator.report()
    more = ImageTypeAccumulator(DEFECTS)
    more.add((1, 0), name="g", product="bottle", defect_type="crack")
    more.merge(accumulator)
    assert len(more) == 7
    assert "g" in more
    with pytest.raises(UsageError, match="in both"):
        more.merge(accumulator)
    with pytest.raises(UsageError, match=r"not 'blemish\.pixel-type-tally/1'"):
        PixelTypeAccumulator.load(tmp_path / "types.npz")


@pytest.mark.parametrize(
    "make", [lambda: ImageTypeAccumulator({"a": ()}), lambda: PixelTypeAccumulator({"a": ("normal",)})]
)
def test_too_few_types_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="needs at least"):
        make()


def test_bad_image_types_are_refused() -> None:
    accumulator = scored(ImageTypeAccumulator(DEFECTS))
    for scores, options, words in (
        ((1, 2), {"name": "a"}, "counted before"),
        ((1, 2, 3), {}, "2 types need as many finite scores"),
        ((1, np.nan), {}, "finite scores"),
        ((1, 2), {"defect_type": "normal"}, "unknown type of bottle"),
        ((1, 2), {"product": "x"}, "unknown product"),
    ):
        with pytest.raises(UsageError, match=words):
            accumulator.add(scores, **{"name": "new", "product": "bottle", "defect_type": "crack"} | options)
    with pytest.raises(UsageError, match="names that differ"):
        ImageTypeAccumulator({"a": ("crack", "crack")})
