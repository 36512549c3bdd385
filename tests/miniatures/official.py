"""Every official download, with what a reader must find in it."""

from __future__ import annotations

from miniatures.downloads import (
    aitex,
    bmad,
    brainmri,
    btad,
    crackforest,
    dagm,
    dtd,
    elpv,
    headct,
    ksdd2,
    lag,
    loco,
    mad_real,
    mad_sim,
    magnetic_tile,
    mpdd,
    mvtec,
    pairs,
    real_iad,
    sdd,
    two_folders,
    visa,
)
from miniatures.expected import Found, Miniature


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
