"""Converts Crane's prompts for ViT-L/14@336 into those that ship: `python -m recipes.crane FOLDER`.

FOLDER holds the two files as that project publishes them (github.com/AlirezaSalehy/Crane at 39181f9, MIT) and its LICENSE. The
result follows from them alone: the same files give the same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from blemish.backbones.checkpoints import read_checkpoint
from blemish.methods.anomalyclip import AnomalyCLIP
from blemish.models.paths import package_models
from blemish.models.prompts import save_prompts

BACKBONE = "ViT-L-14-336"
REPOSITORY, COMMIT = "https://github.com/AlirezaSalehy/Crane", "39181f9"


@dataclass(frozen=True)
class Source:
    """One published file."""

    file: str
    sha256: str
    data: str  # what Crane trained it on
    folder: str  # of the converted prompts; those of the method's own name are used where none are named


SOURCES = (
    Source(
        "prompts_trained_on_mvtec.pth",
        "e6b84fa9bbbc9161f161d206611051e56c46768ec6c00dc7fed019c9b36a66db",
        "MVTec AD",
        "anomalyclip",
    ),
    Source(
        "crane_prompts_trained_on_visa.pth",
        "66d070e3b72b61704495bdadd0f8c4979b62a23ca7211cfe08bd08ec7c0ab831",
        "VisA",
        "anomalyclip-visa",
    ),
)


def convert(source: Source, path: Path, target: Path) -> None:
    """Puts the prompts of one file into a folder, with a card that says whose they are."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise SystemExit(f"{path}: expected sha256 {source.sha256}, found {found}")
    release = AnomalyCLIP.from_release(read_checkpoint(path).tensors)
    assert release is not None
    target.mkdir(parents=True, exist_ok=True)
    parts = {name: part.contiguous() for name, part in release.parts.items()}
    save_prompts(
        target,
        parts,
        method="anomalyclip",
        options=release.options,
        card=card(source, hashlib.sha256(save(parts)).hexdigest()),
    )


def card(source: Source, sha256: str) -> dict[str, Any]:
    """What is known of the prompts; `sha256` is that of their tensors' file."""
    return {
        "backbone": {"name": BACKBONE, "fingerprint": ""},
        "sha256": sha256,
        "data": {"name": source.data},
        "trained_by": "the authors of Crane (Salehi et al.), in Crane's own image tower",
        "licence": "MIT, Copyright (c) 2024 Alireza Salehi (LICENSE beside this file)",
        "source": {"repository": REPOSITORY, "commit": COMMIT, "file": source.file, "sha256": source.sha256},
        "thresholds": {"image": 0.5, "pixel": 0.5},
        "thresholds_from": (
            "the scores' own scale (at 0.5 as near to abnormal as to normal, no image was used); calibrate for better ones"
        ),
        "note": (
            f"Prompts of AnomalyCLIP's form, trained on {source.data}: results on that data set are not zero-shot. Crane changes "
            "the image tower's attention, and AnomalyCLIP's is used here, so neither paper's figures hold for them."
        ),
    }


def main() -> None:
    (folder,) = (Path(argument) for argument in sys.argv[1:])
    for source in SOURCES:
        target = package_models() / BACKBONE / source.folder
        (path,) = folder.rglob(source.file)
        convert(source, path, target)
        shutil.copyfile(path.with_name("LICENSE"), target / "LICENSE")


if __name__ == "__main__":
    main()
