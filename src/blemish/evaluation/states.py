"""An evaluation on disk: what it is, one record an image, and every product's counts, so that a killed one goes on.

A folder holds `identity.json`, `images.jsonl`, `progress.json` and, for each product, `product-000/*-N.npz`, the counts after N
chunks. progress.json is replaced after everything that it speaks of is on the disk, so that it never speaks of what is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blemish.errors import UsageError
from blemish.io.atomic import make_folder, write_text
from blemish.io.json_files import read_json_if_there
from blemish.io.log import Log, read_log
from blemish.metrics import AnomalyAccumulator, ImageTypeAccumulator, PixelTypeAccumulator
from blemish.models.paths import remove

__all__ = ["IDENTITY_FILE", "IMAGES_FILE", "Counts", "EvaluationProgress", "RunFolder", "merged"]

IDENTITY_FILE, IMAGES_FILE, PROGRESS_FILE = "identity.json", "images.jsonl", "progress.json"
SCHEMA = "blemish.evaluation-run/1"


@dataclass
class EvaluationProgress:
    """How far an evaluation is: `chunks` of product number `product` are done, all of the products before it; the length of the
    records then, and the time spent."""

    product: int = 0
    chunks: int = 0
    log_bytes: int = 0
    seconds: float = 0.0


@dataclass
class Counts:
    """What is counted of one product; the types are None where nobody asks for them."""

    anomaly: AnomalyAccumulator
    pixel_types: PixelTypeAccumulator | None = None
    image_types: ImageTypeAccumulator | None = None

    @property
    def parts(self) -> dict[str, AnomalyAccumulator | PixelTypeAccumulator | ImageTypeAccumulator]:
        named = {"anomaly": self.anomaly, "pixel-types": self.pixel_types, "image-types": self.image_types}
        return {name: accumulator for name, accumulator in named.items() if accumulator is not None}

    def merge(self, other: Counts) -> None:
        """Adds another product's counts."""
        self.anomaly.merge(other.anomaly)
        if self.pixel_types is not None and other.pixel_types is not None:
            self.pixel_types.merge(other.pixel_types)
        if self.image_types is not None and other.image_types is not None:
            self.image_types.merge(other.image_types)


class RunFolder:
    """The folder of one evaluation; made with what identifies it. OutputError where it cannot be written."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        make_folder(path)
        if not (path / IDENTITY_FILE).is_file():
            whole = {"schema": SCHEMA, **identity}
            write_text(path / IDENTITY_FILE, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
        remove(tuple(path.glob("**/.*.tmp")))  # remains of a killed evaluation

    def progress(self) -> EvaluationProgress:
        """Where it stands; at the beginning where nothing is there."""
        found = read_json_if_there(self.path / PROGRESS_FILE)
        try:
            return EvaluationProgress(**found)
        except TypeError as error:
            raise UsageError(f"{self.path / PROGRESS_FILE}: is damaged; delete {self.path} to start anew") from error

    def open_log(self, progress: EvaluationProgress) -> Log:
        return Log(self.path / IMAGES_FILE, cut_to=progress.log_bytes)

    def save(self, progress: EvaluationProgress, counts: Counts, log: Log) -> None:
        """Puts the counts of the current product and the place in it on the disk."""
        folder = self._product(progress.product)
        for name, accumulator in counts.parts.items():
            accumulator.save(folder / f"{name}-{progress.chunks}.npz")
        progress.log_bytes = log.sync()
        write_text(self.path / PROGRESS_FILE, json.dumps(asdict(progress)) + "\n")
        now = {f"{name}-{progress.chunks}.npz" for name in counts.parts}
        remove(tuple(file for file in folder.glob("*.npz") if file.name not in now))

    def counts(self, product: int, chunks: int, like: Counts) -> Counts:
        """The counts of a product after so many chunks, of the same parts as `like`; UsageError where they are damaged."""
        folder = self._product(product)

        def path(name: str) -> Path:
            return folder / f"{name}-{chunks}.npz"

        try:
            return Counts(
                AnomalyAccumulator.load(path("anomaly")),
                None if like.pixel_types is None else PixelTypeAccumulator.load(path("pixel-types")),
                None if like.image_types is None else ImageTypeAccumulator.load(path("image-types")),
            )
        except UsageError as error:
            raise UsageError(f"{error}; delete {self.path} to start anew") from error

    def records(self) -> list[dict[str, Any]]:
        """One record for each image, in their order."""
        return read_log(self.path / IMAGES_FILE)

    def read_extra(self, name: str) -> dict[str, Any]:
        """What `write_extra` put there; empty where nothing is."""
        return read_json_if_there(self.path / f"{name}.json")

    def write_extra(self, name: str, facts: Mapping[str, Any]) -> None:
        write_text(self.path / f"{name}.json", json.dumps(facts, ensure_ascii=False) + "\n")

    def _product(self, number: int) -> Path:
        return self.path / f"product-{number:03d}"


def merged(counts: Iterable[Counts]) -> Counts:
    """All products' counts in one, taken one after the other."""
    rest = iter(counts)
    whole = next(rest)
    for other in rest:
        whole.merge(other)
    return whole
