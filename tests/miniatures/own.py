"""A user's own data in the layouts that are read, with what a reader must find in it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from miniatures.downloads import mvtec
from miniatures.expected import Found, Miniature
from miniatures.files import SIZE, image, mask, packed, table


def good_bad(root: Path) -> None:
    image(root / "good/1.png")
    image(root / "bad/1.png")
    mask(root / "ground_truth/bad/1.png")


def own_types(root: Path) -> None:
    for kind in ("ok", "deep_scratch", "dent"):
        image(root / f"{kind}/1.bmp")


def flat(root: Path) -> None:
    for name in ("a.png", "b.jpg"):
        image(root / name)


def flat_masked(root: Path) -> None:
    flat(root)
    mask(root / "a_mask.png")


def own_pairs(root: Path) -> None:
    for stem, value in (("1", 0), ("2", 255)):
        image(root / f"images/{stem}.jpg")
        mask(root / f"masks/{stem}.png", value=value)


LIST = (
    {"image": "pictures/1.png", "label": "normal", "mask": "", "type": "", "product": "cup", "split": "train"},
    {"image": "pictures/2.png", "label": "0", "mask": "", "type": "", "product": "cup", "split": "test"},
    {"image": "pictures/3.png", "label": "1", "mask": "m/3.png", "type": "chip", "product": "plate", "split": "test"},
)
LISTED: Found = {
    ("cup", "train", "", ""): (1, 0),
    ("cup", "test", "", ""): (1, 0),
    ("plate", "test", "chip", "chip"): (1, 1),
}


def listed_files(root: Path) -> None:
    for number in (1, 2, 3):
        image(root / f"pictures/{number}.png")
    mask(root / "m/3.png")


def csv_list(root: Path) -> None:
    listed_files(root)
    with (root / "samples.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, LIST[0])
        writer.writeheader()
        writer.writerows(LIST)


def meta(root: Path) -> None:
    listed_files(root)
    items = [
        {"img_path": row["image"], "mask_path": row["mask"], "cls_name": row["product"], "specie_name": row["type"]}
        | {"anomaly": int(row["label"] == "1")}
        for row in LIST
    ]
    splits = {"train": {"cup": items[:1]}, "Test": {"cup": items[1:2], "plate": items[2:]}}
    table(root / "meta.json", [json.dumps(splits)])


def coco(root: Path) -> None:
    """A normal image, one with a polygon, one with run lengths in both writings; all of them show the blob."""
    for number in range(1, 5):
        image(root / f"images/{number}.png")
    polygon = [2, 3, 8, 3, 8, 7, 2, 7]
    height = SIZE[1]
    runs = [2 * height + 3, *[4, height - 4] * 5, 4]
    runs.append(SIZE[0] * height - sum(runs))
    annotations = [
        {"id": 1, "image_id": 2, "category_id": 7, "segmentation": [polygon], "bbox": [2, 3, 6, 4]},
        {"id": 2, "image_id": 3, "category_id": 9, "segmentation": {"counts": runs, "size": [12, 16]}, "iscrowd": 1},
        {"id": 3, "image_id": 4, "category_id": 7, "segmentation": {"counts": packed(runs), "size": [12, 16]}},
    ]
    pictures = [{"id": n, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in range(1, 5)]
    categories = [{"id": 7, "name": "scratch"}, {"id": 9, "name": "dent"}]
    text = json.dumps({"images": pictures, "annotations": annotations, "categories": categories})
    table(root / "annotations.json", [text])


OWN: dict[str, Miniature] = {
    "good-bad": Miniature(
        good_bad, "image+pixel", {("x", "test", "good", ""): (1, 0), ("x", "test", "bad", ""): (1, 1)}
    ),
    "types": Miniature(
        own_types,
        "image",
        {
            ("x", "test", "ok", ""): (1, 0),
            ("x", "test", "deep_scratch", "deep scratch"): (1, 0),
            ("x", "test", "dent", "dent"): (1, 0),
        },
    ),
    "mvtec-like": Miniature(
        lambda root: [mvtec(root), (root / "bottle").rename(root / "jug"), (root / "screw").rename(root / "bolt")],
        "image+pixel",
        {
            ("jug", "train", "good", ""): (1, 0),
            ("jug", "test", "good", ""): (1, 0),
            ("jug", "test", "broken_large", "broken large"): (1, 1),
            ("bolt", "test", "manipulated_front", "manipulated front"): (1, 1),
        },
    ),
    "flat": Miniature(flat, "image", {("x", "test", "", ""): (2, 0)}, notes=("nobody said",)),
    "flat-masked": Miniature(
        flat_masked, "image+pixel", {("x", "test", "", ""): (1, 0), ("x", "test", "defect", ""): (1, 1)}
    ),
    "pairs": Miniature(
        own_pairs, "image+pixel", {("x", "test", "normal", ""): (1, 0), ("x", "test", "defect", ""): (1, 1)}
    ),
    "csv": Miniature(csv_list, "image+pixel", LISTED),
    "meta": Miniature(meta, "image+pixel", LISTED),
    "coco": Miniature(
        coco,
        "image+pixel",
        {
            ("x", "test", "", ""): (1, 0),
            ("x", "test", "scratch", "scratch"): (2, 2),
            ("x", "test", "dent", "dent"): (1, 1),
        },
    ),
}
