"""The accumulator of a test set: per product, type and size, their means, merging and resuming."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.errors import UsageError
from blemish.metrics import METRICS, AnomalyAccumulator, aupro, auroc, image_metrics, mean
from maps import joined, make_maps

Image = dict[str, Any]


def images() -> list[Image]:
    """Two products with different types, the second with other maps."""
    found = []
    for product, kind, types in (("bottle", "random", ("crack", "stain")), ("cable", "saturated", ("crack", "cut"))):
        maps, masks = make_maps(kind, images=12, side=64)
        for index, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
            found.append(
                {
                    "anomaly_map": scores,
                    "mask": mask,
                    "name": f"{product}/{index}",
                    "product": product,
                    "defect_type": types[index // 2 % 2] if mask.any() else "",
                    "image_score": float(scores.max()) + index / 100,
                }
            )
    return found


def fed(chosen: list[Image], **options: Any) -> AnomalyAccumulator:
    accumulator = AnomalyAccumulator(**{"rounds": 20} | options)
    for image in chosen:
        accumulator.add(**image)
    return accumulator


def test_products_types_and_means_are_those_of_their_images() -> None:
    everything = images()
    report = fed(everything).report()
    assert [product.row.name for product in report.products] == ["bottle", "cable"]
    for product in report.products:
        own = [image for image in everything if image["product"] == product.row.name]
        check(product.row.values, own)
        for row in product.types:
            chosen = [image for image in own if image["defect_type"] in ("", row.name)]
            check(row.values, chosen)
            assert row.anomalous_images == sum(image["defect_type"] == row.name for image in chosen)
    for metric in METRICS:
        values = {product.row.name: product.row.values[metric] for product in report.products}
        assert report.mean.values[metric] == mean(values)
        assert set(report.mean.values) == set(METRICS)
    assert [row.name for row in report.types] == ["crack", "cut", "stain"]
    assert report.types[0].anomalous_images == sum(image["defect_type"] == "crack" for image in everything)
    assert report.mean.values["pixel_auroc"].interval is not None
    assert report.mean.values["image_auroc"].interval is not None


def check(values: Any, chosen: list[Image]) -> None:
    maps, masks = [image["anomaly_map"] for image in chosen], [image["mask"] for image in chosen]
    pixels = image_metrics(joined(maps), joined(masks))
    whole = image_metrics([image["image_score"] for image in chosen], [mask.any() for mask in masks])
    expected = {
        "pixel_auroc": pixels["auroc"],
        "pixel_ap": pixels["average_precision"],
        "pixel_f1_max": pixels["f1_max"],
    }
    expected |= {"image_auroc": whole["auroc"], "image_ap": whole["average_precision"], "image_f1_max": whole["f1_max"]}
    expected["aupro"] = aupro(maps, masks)
    for name, value in expected.items():
        assert float(values[name]) == pytest.approx(float(value), abs=1e-9 if name.startswith("image") else 2e-4), name


def test_the_report_is_ready_for_json() -> None:
    record = json.loads(json.dumps(fed(images()).report().to_dict()))
    assert record["mean"]["values"]["aupro"]["value"] > 0
    assert record["settings"]["aupro_limit"] == 0.3
    assert record["products"][0]["sizes"][0]["values"]["aupro"]["why"] == ""


def test_merging_and_order_change_nothing_at_all() -> None:
    everything = images()
    whole = fed(everything)
    first, second = fed(everything[::-3]), fed([image for index, image in enumerate(everything[::-1]) if index % 3])
    second.merge(pickle.loads(pickle.dumps(first)))
    assert second.report() == whole.report()
    assert len(second) == len(whole) == len(everything)


def test_a_saved_accumulator_continues(tmp_path: Path) -> None:
    everything = images()
    fed(everything[:10]).save(tmp_path / "accumulator.npz")
    resumed = AnomalyAccumulator.load(tmp_path / "accumulator.npz")
    for image in everything:
        if image["name"] not in resumed:
            resumed.add(**image)
    assert resumed.report() == fed(everything).report()


def test_a_state_of_the_first_version_is_read(tmp_path: Path) -> None:
    fed(images()).save(tmp_path / "now.npz")
    with np.load(tmp_path / "now.npz") as file:
        arrays = dict(file)
    text = arrays["facts"].tobytes().replace(b'"bins"', b'"cells"')
    assert text != arrays["facts"].tobytes()
    np.savez_compressed(tmp_path / "then.npz", **{**arrays, "facts": np.frombuffer(text, np.uint8)})
    assert AnomalyAccumulator.load(tmp_path / "then.npz").report() == fed(images()).report()


def test_no_image_counts_twice(tmp_path: Path) -> None:
    everything = images()
    accumulator = fed(everything[:3])
    with pytest.raises(UsageError, match="bottle/0: this image was counted before"):
        accumulator.add(**everything[0])
    with pytest.raises(UsageError, match="bottle/2: this image is in both accumulators"):
        accumulator.merge(fed(everything[2:4]))
    with pytest.raises(UsageError, match="different settings"):
        accumulator.merge(fed(everything[3:4], score_range=None))


def test_what_cannot_be_said_says_why() -> None:
    everything = images()
    accumulator = fed(
        [image for image in everything if image["product"] == "cable" or image["defect_type"]]
    )  # no normal bottle
    report = accumulator.report()
    assert "nothing normal" in report.products[0].row.values["image_auroc"].reason
    assert report.products[0].row.values["aupimo"].reason == "AUPIMO needs a normal image, and there is none"
    assert report.products[0].row.values["pixel_auroc"].defined
    assert report.mean.values["image_auroc"].without == ("bottle",)
    assert report.mean.values["image_auroc"].value == report.products[1].row.values["image_auroc"].value


def test_without_masks_there_are_image_metrics() -> None:
    accumulator = AnomalyAccumulator(rounds=0)
    for index in range(6):
        accumulator.add(None, None, name=str(index), anomalous=index > 2, image_score=index % 4)
    values = accumulator.report().mean.values
    assert values["image_auroc"] == mean({"": auroc([0, 1, 2, 3, 0, 1], [0, 0, 0, 1, 1, 1])})
    assert "there are no masks" in values["aupro"].reason


def test_without_image_scores_there_are_pixel_metrics() -> None:
    accumulator = fed([image | {"image_score": None} for image in images()[:6]])
    values = accumulator.report().products[0].row.values
    assert values["image_auroc"].reason == "6 of 6 images have no image score"
    assert values["aupro"].defined


def test_a_vanished_mask_is_named() -> None:
    accumulator = fed(images()[:4])
    accumulator.add(
        np.zeros((8, 8)),
        np.zeros((8, 8)),
        name="small",
        product="bottle",
        anomalous=True,
        defect_type="dot",
        image_score=1,
    )
    report = accumulator.report()
    assert report.products[0].vanished == ("small",)
    assert [row.name for row in report.products[0].types] == ["crack", "dot", "stain"]
    assert "no" in report.products[0].types[1].values["aupro"].reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": None}, "say whether the image is anomalous"),
        ({"anomaly_map": None}, "a mask needs a map"),
        ({"image_score": np.nan}, "must be finite"),
        ({"anomalous": False, "defect_type": "crack"}, "no defect type"),
        ({"mask": np.full((64, 64), 7)}, "bottle/1: a mask holds only 0"),
        ({"anomaly_map": np.full((64, 64), 7.0)}, r"bottle/1: map scores must lie in 0\.\.1"),
    ],
)
def test_a_refused_image_is_not_counted(change: Image, words: str) -> None:
    accumulator = AnomalyAccumulator()
    with pytest.raises(UsageError, match=words):
        accumulator.add(**images()[1] | change)
    assert len(accumulator) == 0
    assert accumulator.report().products == ()


def test_extremes_serve_a_second_pass() -> None:
    everything = images()[:12]
    maps = [image["anomaly_map"] for image in everything]
    accumulator = fed(everything)
    assert accumulator.extremes("bottle") == (min(one.min() for one in maps), max(one.max() for one in maps))
    assert accumulator.extremes("nothing") is None
