"""What is wrong with a download is said, with the file: a broken variant of every layout."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.data import entry, open_data
from blemish.data.checking import Check, check
from blemish.errors import UsageError
from miniatures import LIST, OFFICIAL, OWN, image, mask, table

Break = Callable[[Path], object]


def built(name: str, tmp_path: Path) -> Path:
    miniature = {**OFFICIAL, **OWN}[name]
    folder = miniature.folder or (entry(name).folders[0] if name in OFFICIAL else name)
    root = tmp_path / folder
    root.mkdir(parents=True)
    miniature.build(root)
    return root


def looked_at(name: str, root: Path) -> Check:
    return check(name, root=root) if name in OFFICIAL else check(root)


def text_of(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def str_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def json_of(path: Path, change: Callable[[dict], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


BROKEN = Path("bottle/test/broken_large")
BROKEN_MASK = Path("bottle/ground_truth/broken_large/000_mask.png")
BREAKS_TRUTH: list[tuple[str, Break, str]] = [
    (
        "mvtec",
        lambda r: mask(r / "bottle/ground_truth/broken_large/007_mask.png"),
        r"007_mask.png: is a mask of no image",
    ),
    ("mvtec", lambda r: mask(r / "bottle/ground_truth/broken_large/000.png"), r"second mask of 000.png"),
    (
        "mvtec",
        lambda r: mask(r / "bottle/ground_truth/broken_small/000_mask.png"),
        r"broken_small: holds masks of a folder",
    ),
    ("mvtec", lambda r: image(r / "bottle/test/broken_large/000.bmp"), r"has the same stem as 000"),
    ("mpdd", lambda r: mask(r / "metal_plate/ground_truth/scratches/1_mask.png"), r"1_mask.png: is a mask of no image"),
    ("btad", lambda r: mask(r / "03/ground_truth/ko/0000.png"), r"second mask of 0000.bmp"),
    ("dtd-synthetic", lambda r: mask(r / "Woven_001/ground_truth/bad/9.png"), r"9.png: is a mask of no image"),
    ("mad-sim", lambda r: mask(r / "01Gorilla/ground_truth/Burrs/0_mask.png"), r"Burrs: holds masks of a folder"),
    ("mad-real", lambda r: mask(r / "Bear/ground_truth/Stains/7.png"), r"7.png: is a mask of no image"),
    (
        "mvtec-loco",
        lambda r: mask(r / "pushpins/ground_truth/logical_anomalies/009/0.png"),
        r"009: holds masks of no image",
    ),
    ("visa", lambda r: shutil.rmtree(r / "split_csv"), r"1cls.csv: is missing"),
    ("sdd", lambda r: mask(r / "kos01/Part7_label.bmp"), r"Part7_label.bmp: is a mask of no image"),
    ("ksdd2", lambda r: mask(r / "test/20009_GT.png"), r"20009_GT.png: is a mask of no image"),
    ("aitex", lambda r: mask(r / "Mask_images/0009_002_00_mask.png"), r"0009_002_00_mask.png: is a mask of no image"),
    ("dagm", lambda r: shutil.rmtree(r / "Class1/Train/Label"), r"Train: has no folder Label"),
    (
        "real-iad",
        lambda r: (r / "realiad_512/toy").mkdir(parents=True),
        r"several resolutions.*realiad_256, realiad_512",
    ),
    (
        "real-iad",
        lambda r: table(r / "realiad_jsons/realiad_jsons/pcb.json", ["{}"]),
        r"pcb.json: is not a list of Real-IAD",
    ),
    ("magnetic-tile", lambda r: mask(r / "MT_Break/Imgs/x.png"), r"x.png: is a mask of no image"),
    (
        "brainmri",
        lambda r: (shutil.rmtree(r / "yes"), shutil.rmtree(r / "brain_tumor_dataset")),
        r"is not there: expected",
    ),
    ("headct", lambda r: (r / "labels.csv").unlink(), r"Head CT.* is not there"),
    ("br35h", lambda r: shutil.rmtree(r / "no"), r"Br35H is not there"),
    ("lag", lambda r: shutil.rmtree(r / "non_glaucoma"), r"LAG .* is not there"),
    ("colondb", lambda r: mask(r / "masks/99.png"), r"99.png: is a mask of no image"),
    ("clinicdb", lambda r: mask(r / "Ground Truth/99.tif"), r"99.tif: is a mask of no image"),
    ("kvasir", lambda r: mask(r / "masks/abc.jpg"), r"abc.jpg: is a mask of no image"),
    ("endo", lambda r: shutil.rmtree(r / "masks"), r"EndoTect 2020 is not there"),
    (
        "isic",
        lambda r: mask(next(r.rglob("*_Segmentation.png")).with_name("9_Segmentation.png")),
        r"is a mask of no image",
    ),
    ("tn3k", lambda r: mask(r / "test-mask/0099.jpg"), r"0099.jpg: is a mask of no image"),
    (
        "crackforest",
        lambda r: shutil.copy(r / "groundTruth/001.mat", r / "groundTruth/9.mat"),
        r"9.mat: is the truth of no",
    ),
    ("bmad-liver", lambda r: mask(r / "test/Ungood/label/9.png"), r"9.png: is a mask of no image"),
    ("good-bad", lambda r: mask(r / "ground_truth/bad/9.png"), r"9.png: is a mask of no image"),
    ("pairs", lambda r: mask(r / "masks/9.png"), r"9.png: is a mask of no image"),
    ("flat-masked", lambda r: mask(r / "z_mask.png"), r"z_mask.png: is a mask of no image"),
    (
        "csv",
        lambda r: text_of(r / "samples.csv", lambda t: t.replace("type,", "typ,")),
        r"unknown column .*'typ'; did you mean 'type'",
    ),
    ("csv", lambda r: text_of(r / "samples.csv", lambda t: t.replace("image,", "type,", 1)), r"needs a column image"),
    ("meta", lambda r: text_of(r / "meta.json", lambda t: t[:-9]), r"meta.json: is not the meta.json"),
    ("meta", lambda r: table(r / "meta.json", ["[]"]), r"meta.json: is not the meta.json"),
    ("coco", lambda r: json_of(r / "annotations.json", lambda d: d.pop("categories")), r"is not a COCO file"),
]


@pytest.mark.parametrize(("name", "break_it", "message"), BREAKS_TRUTH, ids=str_of)
def test_a_set_whose_truth_is_unsure_is_not_opened(name: str, break_it: Break, message: str, tmp_path: Path) -> None:
    root = built(name, tmp_path)
    break_it(root)
    with pytest.raises(UsageError) as caught:
        open_data(name, root=root) if name in OFFICIAL else open_data(root)
    assert re.search(message, str(caught.value))


NOT_UNPACKED = json.dumps({"meta": {"prefix": "pcb/"}, "train": [], "test": []})
PROBLEMS: list[tuple[str, Break, str]] = [
    ("mvtec", lambda r: (r / BROKEN_MASK).unlink(), r"broken_large: has no masks in ground_truth"),
    ("mvtec", lambda r: mask(r / BROKEN_MASK, value=0), r"000_mask.png: is an empty mask"),
    ("mvtec", lambda r: mask(r / BROKEN_MASK, size=(20, 12)), r"is 20 x 12 px, its image 16 x 12"),
    (
        "mvtec",
        lambda r: image(r / "bottle/test/lost_cap/000.png"),
        r"lost_cap: is a folder that MVTec AD does not have",
    ),
    ("mvtec", lambda r: (r / "bottle/test/good/7.png").mkdir(), r"7.png: is a folder where an image file should be"),
    ("mvtec", lambda r: (r / "bottle/test/good/7.png").write_bytes(b"no"), r"7.png: is unreadable: is not a JPEG"),
    ("mvtec", lambda r: (r / "bottle/test/good/7.png").write_bytes(b""), r"7.png: is unreadable: the file is empty"),
    (
        "mvtec",
        lambda r: shutil.copy(r / "bottle/test/good/000.png", r / "bottle/train/good/7.png"),
        r"000.png: has the same bytes as bottle/train/good/7.png",
    ),
    (
        "mvtec",
        lambda r: shutil.copy(r / "bottle/test/good/000.png", r / BROKEN / "000.png"),
        r"same bytes.*one is normal, the other anomalous",
    ),
    ("mvtec", lambda r: (r / BROKEN_MASK).write_bytes(b"no"), r"000_mask.png: is not a JPEG"),
    ("mvtec", lambda r: image(r / "bottle/test/broken_large/001.png"), r"001.png: has no mask"),
    ("mpdd", lambda r: image(r / "metal_plate/test/dents/0.png"), r"dents: is a folder that MPDD .* does not have"),
    ("btad", lambda r: image(r / "01/test/ko/0001.bmp"), r"0001.bmp: has no mask"),
    ("mvtec-loco", lambda r: image(r / "pushpins/test/logical_anomalies/001.png"), r"001.png: has no mask"),
    (
        "visa",
        lambda r: (r / "candle/Data/Images/Anomaly/000.JPG").unlink(),
        r"000.JPG: is named in split_csv/1cls.csv and is not there",
    ),
    ("visa", lambda r: (r / "candle/Data/Masks/Anomaly/000.png").unlink(), r"Anomaly/000.JPG: has no mask"),
    (
        "visa",
        lambda r: mask(r / "candle/Data/Masks/Anomaly/9.png"),
        r"9.png: is a mask that split_csv/1cls.csv does not name",
    ),
    ("visa", lambda r: (r / "candle/image_anno.csv").unlink(), r"image_anno.csv: is missing"),
    (
        "visa",
        lambda r: text_of(r / "candle/image_anno.csv", lambda t: t.replace("extra wax", "more wax")),
        r"'more wax in candle'",
    ),
    (
        "visa",
        lambda r: shutil.rmtree(r / "candle/Data/Masks"),
        r"Masks/Anomaly: is missing: the product is not unpacked",
    ),
    ("sdd", lambda r: image(r / "kos01/Part7.jpg", size=(16, 36)), r"Part7.jpg: has no mask, so nobody knows"),
    ("ksdd2", lambda r: (r / "test/20001_GT.png").write_bytes(b"no"), r"20001_GT.png: is not a JPEG.*left out"),
    (
        "aitex",
        lambda r: image(r / "Defect_images/0001_777_00.png"),
        r"0001_777_00.png: is not named number_defect_fabric",
    ),
    (
        "aitex",
        lambda r: mask(r / "Mask_images/0001_002_00_mask.png", value=0, size=(1024, 256)),
        r"0001_002_00.png: has an empty mask",
    ),
    ("dagm", lambda r: shutil.rmtree(r / "Class1/Train"), r"Class1: has no folder Train"),
    (
        "elpv",
        lambda r: text_of(r / "labels.csv", lambda t: t.replace("0.0", "none")),
        r"line 1 is not a path, a probability",
    ),
    ("elpv", lambda r: (r / "images/cell0001.png").unlink(), r"cell0001.png: is named in labels.csv and is not there"),
    ("elpv", lambda r: image(r / "images/cell0009.png"), r"cell0009.png: has no line in labels.csv"),
    ("real-iad", lambda r: next(r.rglob("*_C2_*.jpg")).unlink(), r"C2_.*is named in toy.json and is not there"),
    ("real-iad", lambda r: next(r.rglob("*_C1_*.png")).unlink(), r"C1_.*: has no mask"),
    (
        "real-iad",
        lambda r: table(r / "realiad_jsons/realiad_jsons/pcb.json", [NOT_UNPACKED]),
        r"pcb: is missing: pcb is not unpacked",
    ),
    (
        "magnetic-tile",
        lambda r: mask(r / "MT_Uneven/Imgs/exp1_num_5.png", value=0),
        r"exp1_num_5.png: is an empty mask",
    ),
    ("magnetic-tile", lambda r: (r / "MT_Crack/Imgs/exp1_num_1.png").unlink(), r"MT_Crack: has no masks"),
    (
        "magnetic-tile",
        lambda r: image(r / "MT_Hole/Imgs/1.jpg"),
        r"MT_Hole: is a folder that Magnetic Tile .* left out",
    ),
    ("br35h", lambda r: (r / "no/x.jpg").write_bytes(b"\xff\xd8\xff"), r"x.jpg: is unreadable"),
    ("headct", lambda r: (r / "head_ct/head_ct/000.png").unlink(), r"labels.csv: the row '0', '1' has no image"),
    ("headct", lambda r: image(r / "head_ct/head_ct/009.png"), r"009.png: has no row in labels.csv"),
    ("kvasir", lambda r: image(r / "images/77.jpg"), r"77.jpg: has no mask"),
    ("tn3k", lambda r: mask(r / "test-mask/2.jpg", size=(20, 20)), r"2.jpg: is 20 x 20 px, its image 16 x 12"),
    ("crackforest", lambda r: (r / "groundTruth/001.mat").write_bytes(b"no"), r"001.mat: holds no Segmentation"),
    ("bmad-brain", lambda r: shutil.rmtree(r / "train/good/img"), r"good: has no folder img"),
    ("good-bad", lambda r: image(r / "bad/2.png"), r"2.png: has no mask"),
    ("csv", lambda r: (r / "pictures/1.png").unlink(), r"1.png: is named in samples.csv and is not there"),
    ("csv", lambda r: (r / "m/3.png").unlink(), r"3.png: is named in samples.csv and is not there"),
    ("csv", lambda r: text_of(r / "samples.csv", lambda t: t.replace("normal", "perhaps")), r"the label 'perhaps'"),
    ("csv", lambda r: text_of(r / "samples.csv", lambda t: t.replace("train", "holdout")), r"the split 'holdout'"),
    ("coco", lambda r: (r / "images/1.png").unlink(), r"1.png: is named in annotations.json and is not there"),
    (
        "coco",
        lambda r: json_of(r / "annotations.json", lambda d: d["annotations"][0].pop("segmentation")),
        r"2.png: has an annotation .* without a drawn shape",
    ),
    (
        "coco",
        lambda r: json_of(r / "annotations.json", lambda d: d["annotations"][1]["segmentation"]["counts"].pop()),
        r"run lengths fill",
    ),
    (
        "coco",
        lambda r: json_of(r / "annotations.json", lambda d: d["images"][1].update(width=99)),
        r"says that 2.png is",
    ),
]


@pytest.mark.parametrize(("name", "break_it", "message"), PROBLEMS, ids=str_of)
def test_a_problem_is_named_with_its_file(name: str, break_it: Break, message: str, tmp_path: Path) -> None:
    root = built(name, tmp_path)
    before = {str(problem) for problem in looked_at(name, root).problems}
    break_it(root)
    new = [str(problem) for problem in looked_at(name, root).problems if str(problem) not in before]
    assert any(re.search(message, problem) for problem in new), new


def test_every_layout_has_broken_variants() -> None:
    layouts = {name: entry(name).layout for name in OFFICIAL}
    broken = {name for name, _, _ in (*BREAKS_TRUTH, *PROBLEMS)}
    assert {layouts[name] for name in OFFICIAL} == {layouts[name] for name in broken if name in layouts}


def test_a_half_unpacked_set_is_said_and_opened(tmp_path: Path) -> None:
    root = built("mvtec", tmp_path)
    found = check("mvtec", root=root)
    assert "bottle, train: 1 images where the official set has 209" in found.reading.differences
    assert "cable: is not there" in found.reading.differences
    assert not found.is_clean
    assert any("not the whole official set" in note for note in open_data(root).notes)


def test_a_clean_folder_has_no_problems(tmp_path: Path) -> None:
    for name in OWN:
        found = check(built(name, tmp_path / name))
        assert found.is_clean, (name, found.problems)


def test_counts_are_by_product_split_and_type(tmp_path: Path) -> None:
    rows = check(built("mvtec-like", tmp_path)).rows
    assert [(row.product, row.split, row.defect_type, row.images, row.masks) for row in rows] == [
        ("bolt", "test", "manipulated front", 1, 1),
        ("jug", "train", "normal", 1, 0),
        ("jug", "test", "normal", 1, 0),
        ("jug", "test", "broken large", 1, 1),
    ]


def test_a_quick_look_opens_no_image(tmp_path: Path) -> None:
    root = built("good-bad", tmp_path)
    (root / "good/1.png").write_bytes(b"no")
    assert check(root, quick=True).is_clean
    assert not check(root).is_clean


def test_progress_comes_to_its_end_past_unreadable_images(tmp_path: Path) -> None:
    root = built("flat", tmp_path)
    (root / "b.jpg").write_bytes(b"no")
    seen: list[tuple[int, int]] = []
    check(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_looking_writes_nothing(tmp_path: Path) -> None:
    root = built("mvtec", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o555)
    try:
        check("mvtec", root=root)
    finally:
        for folder, _, _ in os.walk(root):
            Path(folder).chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_lists_name_images_with_either_slash(tmp_path: Path) -> None:
    root = built("csv", tmp_path)
    assert {sample.name for sample in open_data(root).samples} == {row["image"] for row in LIST}
