"""Every official download, and a user's own layouts, as a handful of tiny files, with what a reader must find in them."""

from __future__ import annotations

import csv
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from blemish.data import DataSet, Level

SIZE = (16, 12)  # width and height in pixels
BLOB = (slice(3, 7), slice(2, 8))  # rows and columns of the defect: 24 px
BLOB_PX = 24

Found = dict[tuple[str, str, str, str], tuple[int, int]]  # product, split, folder, type -> images, of them with a mask


def image(path: Path, *, size: tuple[int, int] = SIZE) -> Path:
    """A picture of noise that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.as_posix().encode())).integers(60, 200, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def mask(path: Path, *, value: int = 255, size: tuple[int, int] = SIZE) -> Path:
    """A mask with a blob of that value; 0 makes it empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size[::-1], np.uint8)
    values[BLOB] = value
    Image.fromarray(values).save(path, **({"quality": 75} if path.suffix == ".jpg" else {}))
    return path


def table(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def found_in(dataset: DataSet) -> Found:
    """What a data set holds, in the form of the expectations below."""
    images: Counter[tuple[str, str, str, str]] = Counter()
    masks: Counter[tuple[str, str, str, str]] = Counter()
    for sample in dataset.samples:
        key = (sample.product, sample.split, sample.folder, sample.defect_type)
        images[key] += 1
        masks[key] += sample.anomalous and sample.has_mask
    return {key: (count, masks[key]) for key, count in images.items()}


@dataclass(frozen=True)
class Miniature:
    """How to build a data set below a folder, and what must be found; `folder` is its usual name."""

    build: Callable[[Path], object]
    level: Level
    found: Found
    folder: str = ""
    mask_px: int | None = BLOB_PX
    notes: tuple[str, ...] = field(default=())


def mvtec(root: Path) -> None:
    image(root / "bottle/train/good/000.png")
    image(root / "bottle/test/good/000.png")
    image(root / "bottle/test/broken_large/000.png")
    mask(root / "bottle/ground_truth/broken_large/000_mask.png")
    image(root / "screw/test/manipulated_front/000.png")
    mask(root / "screw/ground_truth/manipulated_front/000_mask.png")


def mpdd(root: Path) -> None:
    image(root / "metal_plate/train/good/000.png")
    image(root / "metal_plate/test/good/000.png")
    for kind in ("major_rust", "scratches"):
        image(root / f"metal_plate/test/{kind}/000.png")
        mask(root / f"metal_plate/ground_truth/{kind}/000_mask.png")


def btad(root: Path) -> None:
    image(root / "01/train/ok/0000.bmp")
    image(root / "01/test/ok/0000.bmp")
    image(root / "01/test/ko/0000.bmp")
    mask(root / "01/ground_truth/ko/0000.png")
    image(root / "03/test/ko/0000.bmp")
    mask(root / "03/ground_truth/ko/0000.bmp")


def dtd(root: Path) -> None:
    image(root / "Woven_001/train/good/000.png")
    image(root / "Woven_001/test/good/000.png")
    image(root / "Woven_001/test/bad/000.png")
    mask(root / "Woven_001/ground_truth/bad/000_mask.png")


def mad_sim(root: Path) -> None:
    for kind in ("good", "Stains"):
        image(root / f"01Gorilla/test/{kind}/0.png")
        mask(root / f"01Gorilla/ground_truth/{kind}/0_mask.png", value=255 if kind == "Stains" else 0)
    table(root / "01Gorilla/transforms.json", ["{}"])


def mad_real(root: Path) -> None:
    image(root / "Bear/train/good/0.jpg")
    image(root / "Bear/test/good/0.jpg")
    image(root / "Bear/test/Stains/0.jpg")
    mask(root / "Bear/ground_truth/Stains/0.png")


def loco(root: Path) -> None:
    image(root / "pushpins/train/good/000.png")
    image(root / "pushpins/validation/good/000.png")
    image(root / "pushpins/test/good/000.png")
    image(root / "pushpins/test/logical_anomalies/000.png")
    mask(root / "pushpins/ground_truth/logical_anomalies/000/000.png")
    mask(root / "pushpins/ground_truth/logical_anomalies/000/001.png", value=200)
    table(root / "pushpins/defects_config.json", ["[]"])


def visa(root: Path) -> None:
    image(root / "candle/Data/Images/Normal/0000.JPG")
    image(root / "candle/Data/Images/Normal/0001.JPG")
    for stem in ("000", "001"):
        image(root / f"candle/Data/Images/Anomaly/{stem}.JPG")
    mask(root / "candle/Data/Masks/Anomaly/000.png", value=5)
    two = np.zeros(SIZE[::-1], np.uint8)
    two[BLOB] = 2
    two[BLOB[0], 5:8] = 4
    Image.fromarray(two).save(root / "candle/Data/Masks/Anomaly/001.png")
    base, masks = "candle/Data/Images", "candle/Data/Masks/Anomaly"
    both = "damaged corner of packaging,different colour spot"
    table(
        root / "candle/image_anno.csv",
        [
            "image,label,mask",
            f"{base}/Normal/0000.JPG,normal,",
            f"{base}/Anomaly/000.JPG,extra wax in candle,{masks}/000.png",
            f'{base}/Anomaly/001.JPG,"{both}",{masks}/001.png',
        ],
    )
    table(
        root / "split_csv/1cls.csv",
        [
            "object,split,label,image,mask",
            f"candle,train,normal,{base}/Normal/0001.JPG,",
            f"candle,test,normal,{base}/Normal/0000.JPG,",
            f"candle,test,anomaly,{base}/Anomaly/000.JPG,{masks}/000.png",
            f"candle,test,anomaly,{base}/Anomaly/001.JPG,{masks}/001.png",
        ],
    )


def sdd(root: Path) -> None:
    for part, value in ((0, 0), (1, 255)):
        image(root / f"kos01/Part{part}.jpg", size=(16, 36))
        mask(root / f"kos01/Part{part}_label.bmp", value=value, size=(16, 36))


def ksdd2(root: Path) -> None:
    for split, stem, value in (("train", 10000, 0), ("test", 20000, 0), ("test", 20001, 255)):
        image(root / f"{split}/{stem}.png")
        mask(root / f"{split}/{stem}_GT.png", value=value)
    image(root / "train/10301 (copy).png")
    mask(root / "train/10301_GT (copy).png")


def aitex(root: Path) -> None:
    strip = (1024, 256)
    image(root / "NODefect_images/2306881-210020u/0001_000_00.png", size=strip)
    for name, parts in (("0001_002_00", ("_mask",)), ("0044_019_04", ("_mask1", "_mask2")), ("0100_025_08", ())):
        image(root / f"Defect_images/Defect_images/{name}.png", size=strip)
        for index, part in enumerate(parts):
            values = np.zeros(strip[::-1], np.uint8)
            values[10:14, 300 + 256 * index : 306 + 256 * index] = 255
            (root / "Mask_images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / f"Mask_images/{name}{part}.png")


def dagm(root: Path) -> None:
    image(root / "Class1/Train/0001.PNG")
    image(root / "Class1/Test/0001.PNG")
    image(root / "Class1/Test/0002.PNG")
    mask(root / "Class1/Test/Label/0002_label.PNG")
    table(root / "Class1/Test/Label/Labels.txt", ["1", "1\t0\t0001.PNG\t0\t0"])
    (root / "Class1/Train/Label").mkdir()


def elpv(root: Path) -> None:
    rows = (("0.0", "mono"), ("0.3333333333333333", "poly"), ("0.6666666666666666", "mono"), ("1.0", "poly"))
    for number in range(1, 5):
        image(root / f"images/cell{number:04}.png")
    table(
        root / "labels.csv",
        [f"images/cell{number:04}.png  {value}  {kind}" for number, (value, kind) in enumerate(rows, 1)],
    )


def real_iad(root: Path) -> None:
    base = root / "realiad_256/toy"
    ok = image(base / "OK/S0001/toy_0001_OK_C1_20230101000000.jpg")
    scratched = image(base / "NG/HS/S0002/toy_0002_NG_HS_C1_20230101000001.jpg")
    mask(scratched.with_suffix(".png"))
    unseen = image(base / "NG/HS/S0002/toy_0002_NG_HS_C2_20230101000002.jpg")

    def entry(path: Path, code: str) -> dict[str, object]:
        masked = path.with_suffix(".png").relative_to(base).as_posix() if code != "OK" else None
        where = path.relative_to(base).as_posix()
        return {"category": "toy", "anomaly_class": code, "image_path": where, "mask_path": masked}

    lists = {
        "meta": {"prefix": "toy/", "normal_class": "OK"},
        "train": [entry(ok, "OK")],
        "test": [entry(scratched, "HS"), entry(unseen, "OK")],
    }
    for name in ("realiad_jsons", "realiad_jsons_sv"):
        table(root / f"realiad_jsons/{name}/toy.json", [json.dumps(lists)])


def magnetic_tile(root: Path) -> None:
    image(root / "MT_Crack/Imgs/exp1_num_1.jpg")
    values = np.zeros(SIZE[::-1], np.uint8)
    values[2:9, 1:10] = 3  # stray values around the defect
    values[BLOB] = 255
    Image.fromarray(values).save(root / "MT_Crack/Imgs/exp1_num_1.png")
    for kind, number, value in (
        ("Blowhole", 2, 255),
        ("Break", 3, 255),
        ("Fray", 4, 255),
        ("Uneven", 5, 255),
        ("Free", 6, 0),
    ):
        image(root / f"MT_{kind}/Imgs/exp1_num_{number}.jpg")
        mask(root / f"MT_{kind}/Imgs/exp1_num_{number}.png", value=value)


def two_folders(normal: str, other: str, *more: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for name in (normal, other, *more):
            image(root / name)

    return build


def brainmri(root: Path) -> None:
    two_folders("no/1 no.jpeg", "yes/Y1.jpg")(root / "brain_tumor_dataset")
    two_folders("no/1 no.jpeg", "yes/Y1.jpg", "no/2 no.JPG")(root)


def headct(root: Path) -> None:
    for number in range(2):
        image(root / f"head_ct/head_ct/{number:03}.png")
    table(root / "labels.csv", ["id, hemorrhage", "0,1", "1,0"])


def lag(root: Path) -> None:
    image(root / "non_glaucoma/image/0001.jpg")
    image(root / "suspicious_glaucoma/image/0001.jpg")
    for kind in ("non_glaucoma", "suspicious_glaucoma"):
        image(root / kind / "attention_map/0001.jpg")


def pairs(images: str, masks: str, suffix: str, ending: str = "", mask_suffix: str = "") -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for stem in ("2", "10"):  # the order as text is not that of the numbers
            image(root / images / f"{stem}{suffix}")
            mask(root / masks / f"{stem}{ending}{mask_suffix or suffix}")

    return build


def kvasir_split(root: Path) -> None:
    for split in ("train", "validation", "test"):  # names repeat from one split to the next
        pairs(f"{split}/images", f"{split}/masks", ".jpg")(root / "Kvasir-SEG")


def crackforest(root: Path) -> None:
    for stem in ("001", "002"):
        image(root / f"image/{stem}.jpg")
    values = np.ones(SIZE[::-1], np.uint8)
    values[BLOB] = 2
    values[0, 0] = 3
    (root / "groundTruth").mkdir()
    savemat(root / "groundTruth/001.mat", {"groundTruth": {"Segmentation": values, "Boundaries": values}})


def bmad(root: Path) -> None:
    image(root / "train/good/img/2.png")
    for kind, stem, value in (("good", 0, 0), ("Ungood", 1, 255)):
        image(root / f"test/{kind}/img/{stem}.png")
        mask(root / f"test/{kind}/label/{stem}.png", value=value)


def colon(split: str = "test", count: int = 2) -> Found:
    return {("colon", split, "polyp", "polyp"): (count, count)}


OFFICIAL: dict[str, Miniature] = {
    "mvtec": Miniature(
        mvtec,
        "image+pixel",
        {
            ("bottle", "train", "good", ""): (1, 0),
            ("bottle", "test", "good", ""): (1, 0),
            ("bottle", "test", "broken_large", "broken"): (1, 1),
            ("screw", "test", "manipulated_front", "bent"): (1, 1),
        },
    ),
    "visa": Miniature(
        visa,
        "image+pixel",
        {
            ("candle", "train", "normal", ""): (1, 0),
            ("candle", "test", "normal", ""): (1, 0),
            ("candle", "test", "extra wax in candle", "extra"): (1, 1),
            ("candle", "test", "damaged corner of packaging, different color spot", ""): (1, 1),
        },
    ),
    "visa-single-type": Miniature(
        visa,
        "image+pixel",
        {("candle", "test", "normal", ""): (1, 0), ("candle", "test", "extra wax in candle", "extra"): (1, 1)},
        folder="VisA",
    ),
    "mpdd": Miniature(
        mpdd,
        "image+pixel",
        {
            ("metal_plate", "train", "good", ""): (1, 0),
            ("metal_plate", "test", "good", ""): (1, 0),
            ("metal_plate", "test", "major_rust", "rust"): (1, 1),
            ("metal_plate", "test", "scratches", "scratch"): (1, 1),
        },
    ),
    "btad": Miniature(
        btad,
        "image+pixel",
        {
            ("01", "train", "ok", ""): (1, 0),
            ("01", "test", "ok", ""): (1, 0),
            ("01", "test", "ko", ""): (1, 1),
            ("03", "test", "ko", ""): (1, 1),
        },
    ),
    "dtd-synthetic": Miniature(
        dtd,
        "image+pixel",
        {
            ("Woven_001", "train", "good", ""): (1, 0),
            ("Woven_001", "test", "good", ""): (1, 0),
            ("Woven_001", "test", "bad", ""): (1, 1),
        },
    ),
    "mad-sim": Miniature(
        mad_sim,
        "image+pixel",
        {("Gorilla", "test", "good", ""): (1, 0), ("Gorilla", "test", "Stains", "stains"): (1, 1)},
    ),
    "mad-real": Miniature(
        mad_real,
        "image+pixel",
        {
            ("Bear", "train", "good", ""): (1, 0),
            ("Bear", "test", "good", ""): (1, 0),
            ("Bear", "test", "Stains", "stains"): (1, 1),
        },
    ),
    "mvtec-loco": Miniature(
        loco,
        "image",
        {
            ("pushpins", "train", "good", ""): (2, 0),
            ("pushpins", "test", "good", ""): (1, 0),
            ("pushpins", "test", "logical_anomalies", "logical anomaly"): (1, 1),
        },
        notes=("sPRO",),
    ),
    "sdd": Miniature(
        sdd,
        "image+pixel",
        {
            ("sdd", "train", "normal", ""): (3, 0),
            ("sdd", "test", "normal", ""): (2, 0),
            ("sdd", "test", "defect", ""): (1, 1),
        },
    ),
    "sdd-whole": Miniature(
        sdd,
        "image+pixel",
        {("sdd", "test", "normal", ""): (1, 0), ("sdd", "test", "defect", ""): (1, 1)},
        folder="KolektorSDD",
    ),
    "ksdd2": Miniature(
        ksdd2,
        "image+pixel",
        {
            ("ksdd2", "train", "normal", ""): (1, 0),
            ("ksdd2", "test", "normal", ""): (1, 0),
            ("ksdd2", "test", "defect", ""): (1, 1),
        },
        notes=("10301 (copy).png",),
    ),
    "aitex": Miniature(
        aitex,
        "image+pixel",
        {
            ("aitex", "train", "000", ""): (3, 0),
            ("aitex", "test", "000", ""): (1, 0),
            ("aitex", "test", "002", "broken end"): (1, 1),
            ("aitex", "test", "019", "fuzzyball"): (2, 2),
        },
        notes=("0100_025_08.png: has no mask",),
    ),
    "aitex-whole": Miniature(
        aitex,
        "image+pixel",
        {
            ("aitex", "test", "000", ""): (1, 0),
            ("aitex", "test", "002", "broken end"): (1, 1),
            ("aitex", "test", "019", "fuzzyball"): (1, 1),
            ("aitex", "test", "025", "warp ball"): (1, 0),
        },
        folder="AITEX",
        mask_px=None,
    ),
    "dagm": Miniature(
        dagm,
        "image+pixel",
        {
            ("Class1", "train", "normal", ""): (1, 0),
            ("Class1", "test", "normal", ""): (1, 0),
            ("Class1", "test", "defect", ""): (1, 1),
        },
        notes=("ellipses",),
    ),
    "elpv": Miniature(
        elpv,
        "image",
        {("elpv", "test", "mono", ""): (1, 0), ("elpv", "test", "poly", ""): (1, 0)},
        notes=("2 cells",),
    ),
    "real-iad": Miniature(
        real_iad,
        "image+pixel",
        {
            ("toy", "train", "OK", ""): (1, 0),
            ("toy", "test", "OK", ""): (1, 0),
            ("toy", "test", "HS", "scratch"): (1, 1),
        },
    ),
    "real-iad-single-view": Miniature(
        real_iad,
        "image+pixel",
        {
            ("toy", "train", "OK", ""): (1, 0),
            ("toy", "test", "OK", ""): (1, 0),
            ("toy", "test", "HS", "scratch"): (1, 1),
        },
        folder="Real-IAD",
    ),
    "magnetic-tile": Miniature(
        magnetic_tile,
        "image+pixel",
        {("magnetic tile", "test", "MT_Free", ""): (1, 0)}
        | {
            ("magnetic tile", "test", f"MT_{kind}", kind.lower()): (1, 1)
            for kind in ("Blowhole", "Break", "Crack", "Fray", "Uneven")
        },
    ),
    "brainmri": Miniature(
        brainmri,
        "image",
        {
            ("brain", "train", "no", ""): (1, 0),
            ("brain", "test", "no", ""): (1, 0),
            ("brain", "test", "yes", "tumour"): (1, 0),
        },
        folder="BrainMRI",
    ),
    "headct": Miniature(
        headct,
        "image",
        {("head", "test", "normal", ""): (1, 0), ("head", "test", "hemorrhage", "hemorrhage"): (1, 0)},
    ),
    "br35h": Miniature(
        two_folders("no/no0.jpg", "yes/y0.jpg", "pred/pred0.jpg"),
        "image",
        {("brain", "test", "no", ""): (1, 0), ("brain", "test", "yes", "tumour"): (1, 0)},
    ),
    "lag": Miniature(
        lag,
        "image",
        {("eye", "test", "non_glaucoma", ""): (1, 0), ("eye", "test", "suspicious_glaucoma", "glaucoma"): (1, 0)},
    ),
    "colondb": Miniature(pairs("images", "masks", ".png"), "pixel", colon(), folder="CVC-ColonDB"),
    "clinicdb": Miniature(pairs("Original", "Ground Truth", ".tif"), "pixel", colon(), folder="CVC-ClinicDB"),
    "kvasir": Miniature(pairs("images", "masks", ".jpg"), "pixel", colon(), folder="Kvasir-SEG"),
    "endo": Miniature(
        pairs("original", "masks", ".jpg"), "pixel", colon(), folder="EndoTect_2020_Segmentation_Test_Dataset"
    ),
    "isic": Miniature(
        pairs("skin/test/bad", "skin/ISBI2016_ISIC_Part1_Test_GroundTruth", ".jpg", "_Segmentation", ".png"),
        "pixel",
        {("skin", "test", "lesion", "lesion"): (2, 2)},
    ),
    "tn3k": Miniature(
        pairs("test-image", "test-mask", ".jpg"), "pixel", {("thyroid", "test", "nodule", "nodule"): (2, 2)}
    ),
    "crackforest": Miniature(
        crackforest, "pixel", {("road", "test", "crack", "crack"): (1, 1)}, notes=("1 images without a truth",)
    ),
    "conformal-clip": Miniature(
        two_folders("nominal/textile_0008.jpg", "local/textile_0008.jpg", "global/textile_0008.jpg"),
        "image",
        {
            ("textile", "test", "nominal", ""): (1, 0),
            ("textile", "test", "local", "local defect"): (1, 0),
            ("textile", "test", "global", "global defect"): (1, 0),
        },
        notes=("simulated",),
    ),
} | {
    f"bmad-{name}": Miniature(
        bmad,
        "image+pixel",
        {
            (product, "train", "good", ""): (1, 0),
            (product, "test", "good", ""): (1, 0),
            (product, "test", "Ungood", ""): (1, 1),
        },
        folder=folder,
    )
    for name, product, folder in (("brain", "brain", "Brain"), ("liver", "liver", "Liver"), ("resc", "retina", "RESC"))
}


# A user's own data ------------------------------------------------------------------------------------------------


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


def packed(runs: list[int]) -> str:
    """Run lengths in COCO's compressed writing, from its definition."""
    letters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            letters.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(letters)


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
