"""Data sets as people have them: ids as text, paths of other machines, tables of other codings, files that belong to nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish import cli
from blemish.data import open_data
from blemish.data.checking import Check, check
from blemish.errors import UsageError
from miniatures import BLOB, OFFICIAL, OWN, SIZE, image, mask


def built(name: str, root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    {**OFFICIAL, **OWN}[name].build(root)
    return root


def rewritten(root: Path, change: Any) -> Path:
    """The COCO miniature with its JSON changed."""
    file = built("coco", root) / "annotations.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    change(table)
    file.write_text(json.dumps(table), encoding="utf-8")
    return root


def said(found: Check) -> str:
    return "\n".join((*map(str, found.problems), *found.reading.remarks, *found.left_out))


# COCO


@pytest.mark.parametrize("kind", [str, float, lambda value: f" {value} "])
@pytest.mark.parametrize("where", ["images", "annotations", "categories"])
def test_ids_are_one_as_text_and_as_numbers(where: str, kind: Any, tmp_path: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        for item in table[where]:
            for key in ("id", "image_id", "category_id"):
                if key in item:
                    item[key] = kind(item[key])

    root = rewritten(tmp_path, change)
    samples = open_data(root).samples
    assert [(sample.anomalous, sample.defect_type) for sample in samples] == [
        (False, ""),
        (True, "scratch"),
        (True, "dent"),
        (True, "scratch"),
    ]
    assert check(root).is_clean


def test_annotations_of_no_image_are_named_and_such_a_set_is_not_opened(tmp_path: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        table["annotations"][0]["image_id"] = 77
        del table["annotations"][1]["image_id"]

    root = rewritten(tmp_path, change)
    assert "annotations.json: has 2 annotations of images that it does not list (image_id 77, none)" in said(
        check(root)
    )
    with pytest.raises(UsageError, match="annotations of images that it does not list"):
        open_data(root)


def test_images_that_share_an_id_or_a_file_are_named(tmp_path: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        table["images"][1]["id"] = "1"
        table["images"].append({**table["images"][2], "id": 9})

    found = said(check(rewritten(tmp_path, change)))
    assert "gives 2 images the id 1: no annotation can be told apart" in found
    assert "3.png: is listed twice in annotations.json" in found


def test_types_of_an_image_do_not_depend_on_the_order_of_its_annotations(tmp_path: Path) -> None:
    folders = []
    for number, step in enumerate((1, -1)):

        def change(table: dict[str, Any], step: int = step) -> None:
            for item in table["annotations"]:
                item["image_id"] = 2
            table["annotations"] = table["annotations"][::step]

        folders.append([sample.folder for sample in open_data(rewritten(tmp_path / str(number), change)).samples])
    assert folders[0] == folders[1] == ["", "dent, scratch", "", ""]


@pytest.mark.parametrize(
    "prefix",
    ["C:\\Users\\me\\set\\images\\", "images\\", "\\\\server\\share\\", "/home/me/set/images/", "..\\images\\"],
)
def test_paths_of_windows_and_of_other_machines_are_found_by_their_names(prefix: str, tmp_path: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        for item in table["images"]:
            item["file_name"] = prefix + item["file_name"]

    root = rewritten(tmp_path, change)
    (root / "images" / "deep").mkdir()
    dataset = open_data(root)
    assert [sample.name for sample in dataset.samples] == [f"images/{number}.png" for number in range(1, 5)]
    assert sum(sample.anomalous for sample in dataset.samples) == 3
    moved = "4 files lie elsewhere than their list says" in "\n".join(dataset.notes)
    assert moved == (prefix not in ("images\\", "..\\images\\"))
    assert check(root).is_clean


def test_a_name_that_is_there_twice_is_told_apart_by_its_folders_or_not_taken(tmp_path: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        table["images"][0]["file_name"] = "D:\\set\\left\\7.png"
        table["images"][1]["file_name"] = "D:\\set\\7.png"

    root = rewritten(tmp_path, change)
    for side in ("left", "right"):
        image(root / side / "7.png")
    found = check(root)
    assert [sample.name for sample in found.reading.samples] == ["left/7.png", "images/3.png", "images/4.png"]
    assert "7.png: is named in annotations.json and is not there" in said(found)


def test_a_size_that_is_not_stated_is_that_of_the_file(tmp_path: Path) -> None:
    root = rewritten(tmp_path, lambda table: [item.pop("width") for item in table["images"]])
    masks = [sample.mask() for sample in open_data(root).samples]
    assert masks[1] is not None
    assert masks[1][BLOB].all()
    assert masks[1].shape == SIZE[::-1]


@pytest.mark.parametrize("bad", ["x", [["a", "b"]], [[1, 2, 3]], {"counts": ["a"]}, [7]])
def test_a_segmentation_that_makes_no_sense_is_a_problem_of_its_image(bad: Any, tmp_path: Path) -> None:
    root = rewritten(tmp_path, lambda table: table["annotations"][0].update(segmentation=bad))
    found = check(root)
    assert len(found.reading.samples) == 4
    assert "2.png" in said(found)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"images": [1], "annotations": [], "categories": []}', "\xff"])
def test_what_is_no_coco_file_says_so(content: str, tmp_path: Path) -> None:
    built("coco", tmp_path)
    (tmp_path / "annotations.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match="is not a COCO file"):
        open_data(tmp_path)


# tables


@pytest.mark.parametrize(
    ("coding", "note"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("cp1252", "Latin-1 (Windows-1252)"),
    ],
)
def test_tables_of_every_coding_are_read_with_a_note(coding: str, note: str, tmp_path: Path) -> None:
    image(tmp_path / "Gehäuse 1.png")
    image(tmp_path / "b.png")
    text = "image;label;type\nGehäuse 1.png;1;Kratzer\nb.png;0;\n"
    (tmp_path / "samples.csv").write_bytes(text.encode(coding))
    dataset = open_data(tmp_path)
    assert [(sample.name, sample.defect_type) for sample in dataset.samples] == [
        ("Gehäuse 1.png", "Kratzer"),
        ("b.png", ""),
    ]
    assert [line for line in dataset.notes if "UTF-8" in line] == (
        [f"samples.csv is not UTF-8: read as {note}"] if note else []
    )


def test_the_first_line_that_excel_writes_is_no_header(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "samples.csv").write_text("sep=;\nimage;label\na.png;0\n", encoding="utf-8")
    assert [sample.name for sample in open_data(tmp_path).samples] == ["a.png"]


def test_lists_of_another_machine_find_images_and_masks(tmp_path: Path) -> None:
    image(tmp_path / "pictures/1.png")
    image(tmp_path / "pictures/2.png")
    mask(tmp_path / "m/2.png")
    rows = ["image,mask", "C:\\set\\pictures\\1.png,", "C:\\set\\pictures\\2.png,C:\\set\\m\\2.png"]
    (tmp_path / "samples.csv").write_text("\n".join(rows), encoding="utf-8")
    dataset = open_data(tmp_path)
    assert [sample.name for sample in dataset.samples] == ["pictures/1.png", "pictures/2.png"]
    found = dataset.samples[1].mask()
    assert found is not None
    assert found[BLOB].all()
    (tmp_path / "m/2.png").unlink()  # the image of the same name is not taken for its own mask
    assert "m\\2.png: is named in samples.csv and is not there" in said(check(tmp_path))


def test_masks_that_a_list_gives_to_normal_images_are_named(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    mask(tmp_path / "m.png")
    (tmp_path / "samples.csv").write_text("image,label,mask\n1.png,0,m.png\n", encoding="utf-8")
    assert "1 masks of images that samples.csv calls normal are not looked at" in said(check(tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_no_text_come_back_from_our_own_list(tmp_path: Path) -> None:
    built("good-bad", tmp_path / "set")
    name = os.fsdecode(b"caf\xe9.png")
    image(tmp_path / "set" / "bad" / "x.png").rename(tmp_path / "set" / "bad" / name)
    assert cli.main(["data", "check", str(tmp_path / "set"), "--quick", "--out", str(tmp_path / "out")]) == 3
    again = open_data(tmp_path / "out" / "samples.csv")
    assert name in {Path(getattr(sample, "path")).name for sample in again.samples}  # noqa: B009


# folders


def test_masks_of_folders_that_are_not_there_are_named(tmp_path: Path) -> None:
    root = built("good-bad", tmp_path)
    mask(root / "ground_truth" / "scratch" / "1.png")
    mask(root / "ground_truth" / "loose.png")
    found = said(check(root))
    assert "scratch: holds masks of a folder that the images do not have" in found
    assert "loose.png: lies beside the folders of ground_truth" in found
    other = built("mvtec-like", tmp_path / "x")
    mask(other / "jug" / "ground_truth" / "loose.png")
    assert "loose.png: lies beside the folders of ground_truth" in said(check(other))


def test_what_is_no_part_of_a_set_is_counted(tmp_path: Path) -> None:
    root = built("mvtec-like", tmp_path)
    image(root / "jug" / "extra" / "1.png")
    image(root / "jug" / "test" / "beside.png")
    (root / "readme.txt").write_text("x", encoding="utf-8")
    (root / "notes.xml").write_text("x", encoding="utf-8")
    found = check(root)
    assert found.is_clean
    assert found.left_out == (
        "2 image files are no part of the set as it was read (jug/extra 1, jug/test 1)",
        "2 files are no images (.txt 1, .xml 1)",
    )


def test_images_beside_a_list_that_does_not_name_them_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = built("coco", tmp_path)
    image(root / "images" / "later.png")
    assert cli.main(["data", "check", str(root)]) == 0
    assert "left out: 1 image files are no part of the set as it was read (images 1)" in capsys.readouterr().out
    assert cli.main(["data", "check", str(root / "annotations.json"), "--json"]) == 0
    assert "images 1" in json.loads(capsys.readouterr().out)["left_out"][0]


def test_one_product_of_a_known_set_is_not_fourteen_problems(tmp_path: Path) -> None:
    root = built("mvtec", tmp_path / "mine")
    assert sum("is not there" in line for line in check(root).reading.differences) == 13
    for product in root.iterdir():
        if product.name != "bottle":
            product.rename(tmp_path / product.name)
    found = check(root)
    assert not any("is not there" in line for line in found.reading.differences)
    assert "one of the 15 products of MVTec AD is there" in found.reading.remarks


def test_masks_in_every_format_are_read(tmp_path: Path) -> None:
    image(tmp_path / "images" / "1.png")
    values = np.zeros(SIZE[::-1], np.uint8)
    values[BLOB] = 255
    (tmp_path / "masks").mkdir()
    head = f"P5 {SIZE[0]} {SIZE[1]} 255\n".encode()
    (tmp_path / "masks" / "1.pgm").write_bytes(head + values.tobytes())
    found = open_data(tmp_path).samples[0].mask()
    assert found is not None
    np.testing.assert_array_equal(found, values > 0)


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = built("mvtec-like", tmp_path)
    image(root / "closed" / "1.png")
    image(root / "jug" / "test" / "dent" / "1.png")
    mask(root / "jug" / "ground_truth" / "dent" / "1_mask.png")

    def refusing(look: Any) -> Any:
        def refuse(path: Any = ".") -> Any:
            if str(path).endswith(("closed", "ground_truth/dent")):
                raise PermissionError(13, "Permission denied", str(path))
            return look(path)

        return refuse

    monkeypatch.setattr(Path, "iterdir", refusing(Path.iterdir))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    found = check(root)
    assert len(found.reading.samples) == 5
    for folder in ("closed", "ground_truth/dent"):
        assert said(found).count(f"{folder}: cannot be listed (permission denied)") == 1
    with pytest.raises(UsageError, match="cannot be listed"):
        open_data(root)
