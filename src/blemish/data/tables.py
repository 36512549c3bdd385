"""The list of a data set's samples as a CSV: what was read and how it was split, to keep beside results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from blemish.data.files import FileSample, MaskFiles

__all__ = ["sample_list"]

HEADER = ("image", "label", "mask", "type", "product", "split")


def sample_list(samples: Iterable[FileSample]) -> str:
    """One line a sample; paths are absolute, #n marks a part of an image. Masks are named where one file holds them.

    Without parts, this is a list that `open_data` reads.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for sample in samples:
        truth = sample.truth
        mask = truth.files[0].resolve().as_posix() if isinstance(truth, MaskFiles) and len(truth.files) == 1 else ""
        name = sample.path.resolve().as_posix()
        where = "" if sample.box_px is None else f"#{sample.name.rpartition('#')[2]}"
        writer.writerow(
            (f"{name}{where}", int(sample.anomalous), mask, sample.defect_type, sample.product, sample.split)
        )
    return text.getvalue()
