"""The layout of MVTec AD: `<product>/{train,test}/<folder>/<image>` and `<product>/ground_truth/<folder>/<image's stem>_mask`.

Read so are MVTec AD, BTAD, MPDD, DTD-Synthetic, MAD, MVTec LOCO (a folder of masks for each image) and whatever was
converted to it. A single product's folder is read like a root with one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.data.entries import Entry
from blemish.data.files import FileSample
from blemish.data.samples import Split
from blemish.data.scan import Scan, folder_name, holds_images, same_name
from blemish.images import SUFFIXES

__all__ = ["fits", "products_in", "read"]

SPLITS: dict[str, Split] = {"train": "train", "validation": "train", "test": "test"}
MASKS = "ground_truth"
OTHER_LAYOUTS = ("images", "masks", "img", "label")


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:
    """Whether products in this layout lie at `root`; with `sure`, only products and folders that the entry knows."""
    scan = Scan(root)
    products = products_in(scan)
    if (
        sure
        and any(_images_below(folder) for folder in scan.folders(root) if folder not in products)
        and products != [root]
    ):
        return False
    known = {name.lower() for name in entry.products}
    if not products or not known:
        return bool(products)
    if not all(_product(folder, entry).lower() in known for folder in products):
        return False
    if sure and entry.options.get("strip_digits") and not all(folder.name[0].isdecimal() for folder in products):
        return False
    words = {word.lower() for word in (*entry.types, *entry.normal)}
    return not sure or all(
        folder.name.lower() in words for product in products for folder in _kinds(scan, product, "test")
    )


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    samples: list[FileSample] = []
    for product in products_in(scan):
        samples += _read_product(scan, entry, product)
    return samples


def products_in(scan: Scan) -> list[Path]:
    """The product folders: the root itself, or those directly below it; none where one of neither has a test split."""
    if _is_product(scan, scan.root):
        return [scan.root]
    products = [folder for folder in scan.folders(scan.root) if _is_product(scan, folder)]
    return products if any(_kinds(scan, product, "test") for product in products) else []


def _is_product(scan: Scan, folder: Path) -> bool:
    """Whether there is a test or train folder with folders, one of which holds images, and not images and masks apart."""
    kinds = [*_kinds(scan, folder, "test"), *_kinds(scan, folder, "train")]
    apart = any(kind.name.lower() in OTHER_LAYOUTS for kind in kinds)
    return not apart and any(holds_images(kind) for kind in kinds)


def _images_below(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.rglob("*"))


def _kinds(scan: Scan, product: Path, split: str) -> list[Path]:
    found = same_name(scan.folders(product), split)
    return [] if found is None else scan.folders(found)


def _product(folder: Path, entry: Entry) -> str:
    name = folder_name(folder)
    return name.lstrip("0123456789") or name if entry.options.get("strip_digits") else name


def _read_product(scan: Scan, entry: Entry, product: Path) -> list[FileSample]:
    name = _product(product, entry)
    samples = []
    paired: set[str] = set()
    has_truth = bool(entry.products) or bool(_kinds(scan, product, MASKS))
    for name_of_split, split in SPLITS.items():
        for kind in _kinds(scan, product, name_of_split):
            normal = kind.name.lower() in entry.normal
            pictures = scan.images(kind)
            masks: dict[Path, tuple[Path, ...]] = {}
            if split == "test":
                paired.add(kind.name.lower())
                masks = _masks(scan, product, kind, pictures)
            if not normal and entry.products and entry.types and kind.name not in entry.types:
                scan.report(kind, f"is a folder that {entry.title} does not have; read as a defect of its own")
            if split == "test" and has_truth and pictures and not normal and not masks:
                scan.report(kind, f"has no masks in {MASKS}: {len(pictures)} of its images have none")
            for picture in pictures:
                files = masks.get(picture, ())
                if not normal and not files and masks:
                    scan.report(picture, "has no mask")
                samples.append(
                    scan.sample(
                        picture,
                        entry,
                        word=kind.name,
                        anomalous=not normal,
                        product=name,
                        split=split,
                        masks=files,
                    )
                )
    for folder in _kinds(scan, product, MASKS):
        if folder.name.lower() not in paired:
            scan.report(folder, "holds masks of a folder that the test images do not have", fatal=True)
    loose = same_name(scan.folders(product), MASKS)
    for file in [] if loose is None else scan.images(loose):
        scan.report(file, f"lies beside the folders of {MASKS} and not in one: it is a mask of no image", fatal=True)
    return samples


def _masks(scan: Scan, product: Path, kind: Path, pictures: Sequence[Path]) -> dict[Path, tuple[Path, ...]]:
    folder = same_name(_kinds(scan, product, MASKS), kind.name)
    if folder is None:
        return {}
    stems = {picture.stem: picture for picture in pictures}
    several = {}
    for inner in scan.folders(folder):  # LOCO: a folder of masks for each image
        if inner.suffix:
            continue  # reported by `images` as a folder in place of a file
        if inner.name not in stems:
            scan.report(inner, "holds masks of no image", fatal=True)
            continue
        several[stems[inner.name]] = tuple(scan.images(inner))
    return {**scan.pairs(pictures, scan.images(folder)), **several}
