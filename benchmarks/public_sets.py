"""Lays out complete test sets that lie in public repositories: `python -m benchmarks.public_sets --mirror SNAPSHOTS`.

`--mirror` is the folder of the repositories' snapshots (bare git folders OWNER+NAME/repo). Nothing of them is part of this
repository, and nothing of it teaches or chooses anything: MVTec AD bottle is CC BY-NC-SA 4.0, BrainMRI and CVC-ClinicDB are for
research.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from recipes.real.sources import Snapshot

from blemish.errors import UsageError
from blemish.io.atomic import replace_file

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class PublicSet:
    """Where the images of a set lie in a repository, and where `blemish.data` looks for them."""

    repository: str
    folders: dict[str, str]  # in the repository -> below --out


SETS = {
    "bottle (MVTec AD)": PublicSet("M-MAHAD1/Bottle-industrial-anomaly-defect-detection", {"bottle": "bottle"}),
    "BrainMRI": PublicSet("MohamedAliHabib/Brain-Tumor-Detection", {"no": "BrainMRI/no", "yes": "BrainMRI/yes"}),
    "CVC-ClinicDB": PublicSet("Harry2830/Polyp-Segmentation", {"input/PNG": "CVC-ClinicDB/PNG"}),
}


def lay_out(public: PublicSet, mirror: Path, out: Path) -> int:
    """Writes the images of a set below `out`; how many there are.

    Raises:
        UsageError: the snapshot is not there, or has none of the images.
    """
    snapshot = Snapshot(mirror, public.repository)
    places = {
        path: out / target / path.removeprefix(f"{folder}/")
        for folder, target in public.folders.items()
        for path in snapshot.paths()
        if path.startswith(f"{folder}/") and path.lower().endswith(IMAGES)
    }
    for path, content in snapshot.contents([path for path, place in places.items() if not place.exists()]):
        places[path].parent.mkdir(parents=True, exist_ok=True)
        with replace_file(places[path]) as temporary:
            temporary.write_bytes(content)
    there = sum(place.exists() for place in places.values())
    if not there:
        raise UsageError(f"{public.repository}: its snapshot holds none of the images")
    return there


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.public_sets", description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("training-cache/public-sets"))
    arguments = parser.parse_args()
    for name, public in SETS.items():
        print(f"{name}: {lay_out(public, arguments.mirror, arguments.out)} files", flush=True)


if __name__ == "__main__":
    main()
