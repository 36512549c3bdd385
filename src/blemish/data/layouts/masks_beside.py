"""Masks beside the images, for normal ones as well: KolektorSDD (`kosNN/PartM.jpg`, `PartM_label.bmp`) and KolektorSDD2.

The masks say which images are anomalous, so that all of them are read. KolektorSDD is also read in thirds: each image cut into
three along its height, a third being anomalous where its part of the mask is (the conversion of AdaCLIP).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from blemish import images
from blemish.data.entries import Entry
from blemish.data.files import Box, FileSample
from blemish.data.samples import Split
from blemish.data.scan import Scan
from blemish.errors import ImageError

__all__ = ["fits", "read"]


def fits(root: Path, entry: Entry, *, sure: bool) -> bool:  # noqa: ARG001
    """Whether the first of the folders has images with masks beside them."""
    ending = entry.options["ending"].lower()
    return any(
        file.stem.lower().endswith(ending) for folder in _folders(root, entry)[:1] for file in Scan(root).images(folder)
    )


def read(scan: Scan, entry: Entry) -> list[FileSample]:
    ending = entry.options["ending"].lower()
    samples: list[FileSample] = []
    for folder in _folders(scan.root, entry):
        files = scan.images(folder)
        pictures = [file for file in files if not file.stem.lower().endswith(ending)]
        found = scan.pairs(pictures, [file for file in files if file.stem.lower().endswith(ending)], (ending,))
        split: Split = "train" if folder.name == "train" else "test"
        for picture in pictures:
            masks = found.get(picture, ())
            if not masks:
                scan.report(picture, "has no mask, so nobody knows whether it is normal: left out")
                continue
            try:
                samples += _parts(scan, entry, picture, masks, split)
            except ImageError as error:
                scan.report(Path(error.source), f"{error.reason}: left out")
    return samples


def _parts(scan: Scan, entry: Entry, picture: Path, masks: tuple[Path, ...], split: Split) -> list[FileSample]:
    foreground = np.logical_or.reduce([images.read_mask(file).above(entry.threshold) for file in masks])
    height, width = foreground.shape
    thirds = entry.options.get("thirds", 1)
    edges = [height * part // thirds for part in range(thirds + 1)]
    samples = []
    for part, (top, bottom) in enumerate(pairwise(edges)):
        box: Box | None = None if thirds == 1 else (0, top, width, bottom)
        anomalous = bool(foreground[top:bottom].any())
        word = "defect" if anomalous else "normal"
        sample = scan.sample(picture, entry, word=word, anomalous=anomalous, split=split, masks=masks)
        name = sample.name if box is None else f"{sample.name}#{part}"
        defect_type = entry.options["type"] if anomalous else ""
        samples.append(replace(sample, name=name, defect_type=defect_type, box_px=box))
    return samples


def _folders(root: Path, entry: Entry) -> list[Path]:
    return sorted(folder for folder in root.glob(entry.options["folders"]) if folder.is_dir()) if root.is_dir() else []
