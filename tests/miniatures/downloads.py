"""The official downloads as they lie on the disk: a function builds each in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from miniatures.files import BLOB, SIZE, image, mask, table


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
