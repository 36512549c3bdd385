"""Each format read back by a tool that reads it in real life, and compared with the run."""

from __future__ import annotations

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blemish import cli
from blemish.exports import fiftyone
from blemish.exports.coco import run_lengths
from blemish.maps import find_blobs
from blemish.runs.reading import Run, read_records
from example_runs import make_run

SCHEMA = Path(__file__).parent / "label_studio.schema.json"
TYPES = ["scratch", "stain"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def export(run: Run, out: Path, format_name: str, *options: str) -> Path:
    assert cli.main(["export", str(run.path), "--format", format_name, "--out", str(out), "-q", *options]) == 0
    return out


def inspected(run: Run) -> dict[str, dict[str, Any]]:
    return {Path(record["source"]).name: record for record in read_records(run.path) if record["verdict"] is not None}


def mask_of(run: Run, record: dict[str, Any]) -> NDArray[np.bool_]:
    with Image.open(run.path / record["mask"]) as image:
        return np.asarray(image, bool)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("options", [(), ("--rle",)])
def test_pycocotools_reads_regions_types_and_scores(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(export(run, tmp_path / "coco.json", "coco", *options)))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == TYPES
    images = coco.loadImgs(coco.getImgIds())
    assert [image["file_name"] for image in images] == ["clean.png", "left.jpg", "sub/two.png", "turned.jpg"]
    for image in images:
        record = inspected(run)[Path(image["file_name"]).name]
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(annotations) == len(record["regions"])
        together = np.zeros((image["height"], image["width"]), bool)
        for annotation, region in zip(annotations, record["regions"], strict=True):
            pixels = coco.annToMask(annotation).astype(bool)
            together |= pixels
            assert TYPES[annotation["category_id"] - 1] == region["type"]
            assert annotation["score"] == region["peak_score"]
            if options:
                assert pixels.sum() == region["area_px"] == annotation["area"]
        if record["regions"]:
            assert overlap(together, mask_of(run, record)) > (0.999 if options else 0.93)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools' own
def test_run_lengths_are_exact_holes_and_all() -> None:
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 5), (30, 20)):
        for share in (0.2, 0.6, 1.0):
            for blob in find_blobs(rng.random((size[1], size[0])) < share):
                whole = np.zeros((size[1], size[0]), bool)
                whole[blob.slices] = blob.pixels
                lengths = run_lengths(blob, size)
                slow = [(inside, len(list(pixels))) for inside, pixels in groupby(whole.T.ravel().tolist())]
                assert lengths == [0] * slow[0][0] + [length for _, length in slow]
                encoded = coco_mask.frPyObjects({"counts": lengths, "size": [size[1], size[0]]}, size[1], size[0])
                np.testing.assert_array_equal(coco_mask.decode(encoded), whole)


def test_coco_files_are_read_by_supervision_too(run: Run, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed", exc_type=ImportError)
    path = export(run, tmp_path / "coco.json", "coco")
    dataset = supervision.DetectionDataset.from_coco(str(run.path.parent / "parts"), str(path), force_masks=True)
    assert dataset.classes == TYPES
    assert len(dataset) == 4


def test_supervision_reads_yolo(run: Run, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed", exc_type=ImportError)
    out = export(run, tmp_path / "yolo", "yolo-seg")
    dataset = supervision.DetectionDataset.from_yolo(
        str(out / "images"), str(out / "labels"), str(out / "data.yaml"), force_masks=True
    )
    assert dataset.classes == TYPES
    found = {Path(path).stem: (image, detections) for path, image, detections in dataset}
    assert set(found) == {"clean", "left", "sub__two", "turned"}
    for record in inspected(run).values():
        image, detections = found[record["mask"].removeprefix("masks/").removesuffix(".png").replace("/", "__")]
        assert image.shape[:2] == (record["height_px"], record["width_px"])
        assert len(detections) == len(record["regions"])
        assert [TYPES[number] for number in detections.class_id] == [region["type"] for region in record["regions"]]
        if record["regions"]:
            assert overlap(detections.mask.any(0), mask_of(run, record)) > 0.93


def test_label_studio_tasks_are_as_its_documentation_says(run: Run, tmp_path: Path) -> None:
    path = export(run, tmp_path / "tasks.json", "label-studio")
    tasks = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(tasks, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [task["data"]["image"] for task in tasks][:3] == [
        f"/data/local-files/?d={name}" for name in ("clean.png", "left.jpg", "sub/two.png")
    ]
    interface = ElementTree.fromstring(path.with_suffix(".xml").read_text(encoding="utf-8"))
    names = {element.get("name"): element for element in interface.iter() if element.get("name")}
    labels = {label.get("value") for label in interface.iter("Label")}
    for task, record in zip(tasks, inspected(run).values(), strict=True):
        (prediction,) = task["predictions"]
        assert prediction["score"] == record["image_score"]
        verdict, *regions = prediction["result"]
        assert verdict["value"] == {"choices": [record["verdict"]]}
        for result, region in zip(regions, record["regions"], strict=True):
            assert {result["from_name"], result["to_name"]} <= set(names)
            assert set(result["value"]["polygonlabels"]) == {region["type"]} <= labels
            x, y = result["value"]["points"][0]
            assert [x * record["width_px"] / 100, y * record["height_px"] / 100] == pytest.approx(
                region["polygon_px"][0]
            )


def test_label_studio_addresses_may_be_others(run: Run, tmp_path: Path) -> None:
    path = export(run, tmp_path / "tasks.json", "label-studio", "--url-prefix", "s3://bucket/")
    assert json.loads(path.read_text(encoding="utf-8"))[0]["data"]["image"] == "s3://bucket/clean.png"


def test_masks_are_the_listed_regions_and_their_types(run: Run, tmp_path: Path) -> None:
    out = export(run, tmp_path / "masks", "masks")
    assert json.loads((out / "types.json").read_text(encoding="utf-8")) == {"1": "scratch", "2": "stain"}
    record = inspected(run)["two.png"]
    with Image.open(out / "masks" / "sub" / "two.png") as image, Image.open(out / "types" / "sub" / "two.png") as types:
        assert image.mode == types.mode == "L"
        regions, numbers = np.asarray(image), np.asarray(types)
    np.testing.assert_array_equal(regions, mask_of(run, record) * 255)
    for region in record["regions"]:
        x0, y0, x1, y1 = region["box_px"]
        assert set(np.unique(numbers[y0:y1, x0:x1])) <= {0, TYPES.index(region["type"]) + 1}


def test_regions_without_a_mask_are_filled_from_their_outlines(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "exact", "masks")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("run.json", "results.jsonl"):
        (moved / name).write_bytes((run.path / name).read_bytes())
    export(Run(moved, run.record), tmp_path / "filled", "masks")
    for path in (tmp_path / "exact").glob("masks/**/*.png"):
        with (
            Image.open(path) as exact,
            Image.open(tmp_path / "filled" / path.relative_to(tmp_path / "exact")) as filled,
        ):
            one, other = np.asarray(exact, bool), np.asarray(filled, bool)
        assert not one.any() or overlap(one, other) > 0.95


def test_tables_hold_every_image_broken_ones_too(run: Run, tmp_path: Path) -> None:
    from pyarrow import parquet

    records = list(read_records(run.path))
    table = parquet.read_table(export(run, tmp_path / "all.parquet", "parquet"))
    assert table.schema.metadata[b"blemish.schema"] == b"blemish.inspection/1"
    rows = table.to_pylist()
    with export(run, tmp_path / "all.csv", "csv").open(encoding="utf-8", newline="") as stream:
        texts = list(csv.DictReader(stream))
    assert (tmp_path / "all.csv").read_bytes() == (run.path / "results.csv").read_bytes()
    for record, row, text in zip(records, rows, texts, strict=True):
        assert row["source"] == text["source"] == record["source"]
        assert row["error"] == record["error"] == (text["error"] or None)
        assert row["image_score"] == record["image_score"]
        assert row["regions"] == record["regions"]
        assert dict(row["types"]) == record["types"]
        assert [name for name in row if name != "statistics"] == list(text)  # those are for shards, and in no CSV


def test_fiftyone_gets_places_in_shares_and_its_absence_is_said(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = fiftyone.sample_of(inspected(run)["two.png"])
    assert all(0 <= value <= 1 for defect in sample["defects"] for x, y in defect["points"][0] for value in (x, y))
    try:
        import fiftyone as _installed  # noqa: F401
    except ImportError:
        assert cli.main(["export", str(run.path), "--format", "fiftyone", "--out", str(tmp_path / "f")]) == 2
        assert "pip install fiftyone" in capsys.readouterr().err
        pytest.skip(
            "FiftyOne is not installed: by hand, pip install fiftyone, then blemish export RUN --format fiftyone"
        )
    export(run, tmp_path / "fiftyone", "fiftyone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "cocoa", "--out", "x"], "cocoa"),
        (["--format", "csv", "--out", "x", "--rle"], "--rle is no option of the format csv"),
        (["--format", "csv", "--out", "x", "--url-prefix", "/"], "--url-prefix is no option"),
        (["--format", "csv", "--out", "."], "is a folder"),
        (["--format", "masks", "--out", "."], "new or empty folder"),
        (["--format", "csv", "--out", "there.csv"], "--overwrite replaces it"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, arguments: list[str], message: str, in_a_new_folder: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("there.csv").write_text("mine")
    assert cli.main(["export", str(run.path), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert Path("there.csv").read_text() == "mine"


def test_a_folder_without_a_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(tmp_path), "--format", "csv", "--out", str(tmp_path / "x.csv")]) == 2
    assert "holds no run" in capsys.readouterr().err
