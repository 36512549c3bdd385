"""What a process that inspects images for another one is told, and what it does: load a model once, then make records.

A worker process (`workforce`) and an actor of Ray (`blemish.scale`) do the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.config import Config
from blemish.errors import ImageError, ModelError
from blemish.images import Learned
from blemish.inspection.inspector import BatchPlan, Inspected, Inspector
from blemish.inspection.load import load
from blemish.inspection.loader import LoadedImage
from blemish.io.codec import from_dict
from blemish.runs.pictures import PictureWriter
from blemish.runs.records import error_record, record_of

__all__ = ["ImageJob", "ImageWork", "WorkOrder", "plan_jobs", "same_engine"]

MOST_BATCHES = 4  # of a job: while one batch is scored, the next one is read
JOBS_A_WORKER = 4  # at least, so that all workers end at about the same time


def same_engine(config: Config, inspector: Inspector) -> dict[str, Any]:
    """The configuration for other processes, as plain data: with the engine that this one has chosen, where it was to choose."""
    chosen = {"engine": inspector.engine.name} if config.model.engine == "auto" else {}
    return config.with_settings(**chosen).to_dict()


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """What must be known to inspect images as another process does; plain data, so that it goes as JSON."""

    config: Mapping[str, Any]  # `Config.to_dict`
    model: Mapping[str, Any]  # the model that the other process has loaded
    learned: Learned | None = None  # of the value range, from all images
    out: str | None = None  # the folder of results; None where no pictures are written
    keep_maps: bool = False
    overlays: bool = True  # whether they are written
    masks: bool = True
    threads: int = 1  # that it computes with, and as many that read images

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> WorkOrder:
        """The order that `to_dict` made."""
        return from_dict(cls, data)


@dataclass(frozen=True, kw_only=True)
class ImageJob:
    """Some images in their order, in batches as one process would have them."""

    start: int  # the number of the first image
    paths: tuple[str, ...]
    names: tuple[str, ...] = ()  # of the pictures, without suffix; none where no pictures are written
    starts: tuple[int, ...]  # the numbers of the first images of its batches
    failures: int = field(default=0, compare=False)  # how often a process has ended with it

    @property
    def end(self) -> int:
        """The number of the image after the last one."""
        return self.start + len(self.paths)

    def part(self, start: int, end: int, *, failures: int = 0) -> ImageJob:
        """The images from number `start` to before `end`."""
        inner = slice(start - self.start, end - self.start)
        return ImageJob(
            start=start,
            paths=self.paths[inner],
            names=self.names[inner],
            starts=tuple(number for number in self.starts if start <= number < end) or (start,),
            failures=failures,
        )

    def batches(self) -> list[ImageJob]:
        """A job for each of its batches."""
        return [self.part(start, end) for start, end in pairwise([*self.starts, self.end])]

    def images(self) -> list[ImageJob]:
        """A job for each of its images."""
        return [self.part(number, number + 1) for number in range(self.start, self.end)]


def plan_jobs(
    paths: Sequence[str], names: Sequence[str], plan: BatchPlan, *, done: int = 0, workers: int
) -> Iterator[ImageJob]:
    """The images from number `done` on in jobs of whole batches, in their order."""
    first = max((number for number in plan.starts if number <= done), default=0)
    starts = [number for number in plan.starts if number >= first]
    size = max(1, min(MOST_BATCHES, len(starts) // (workers * JOBS_A_WORKER)))
    for place in range(0, len(starts), size):
        own = starts[place : place + size]
        end = starts[place + size] if place + size < len(starts) else len(paths)
        yield ImageJob(
            start=own[0], paths=tuple(paths[own[0] : end]), names=tuple(names[own[0] : end]), starts=tuple(own)
        )


class ImageWork:
    """A model, loaded once, that makes records of the images of one job after the other.

    Args:
        order: What the process was told.
        inspector: The model, where it is loaded already.

    Raises:
        ModelError: It is not the model that the other process has loaded.
    """

    def __init__(self, order: WorkOrder, inspector: Inspector | None = None) -> None:
        if inspector is None:
            inspector = load(Config.from_dict(order.config))
            inspector.workers = order.threads
        self.inspector = inspector
        self.threads = order.threads
        self._learned = order.learned
        self._pictures = None
        if order.out is not None:
            self._pictures = PictureWriter(
                Path(order.out), keep_maps=order.keep_maps, overlays=order.overlays, masks=order.masks
            )
        if self.inspector.model.to_dict() != dict(order.model):
            raise ModelError(
                f"a worker has loaded another model ({_named(self.inspector.model.to_dict())}) than the process that "
                f"started it ({_named(order.model)}): the files have changed meanwhile, or differ between machines"
            )

    def records(self, job: ImageJob) -> Iterator[dict[str, Any]]:
        """The records of the images of a job, in their order, each when its pictures are there."""
        outcomes = self.inspector.stream([Path(path) for path in job.paths], learned=self._learned)
        for place, outcome in enumerate(outcomes):
            yield self.record(outcome, job.names[place] if job.names else None)

    def score(
        self, batch: Sequence[LoadedImage | ImageError], names: Sequence[str], pool: ThreadPoolExecutor
    ) -> list[dict[str, Any]]:
        """The records of a batch of images that another process has loaded."""
        outcomes = list(self.inspector.submit(batch, pool))
        found = [outcome if isinstance(outcome, ImageError) else outcome.result() for outcome in outcomes]
        return [self.record(outcome, name) for outcome, name in zip(found, names, strict=True)]

    def record(self, outcome: Inspected | ImageError, name: str | None) -> dict[str, Any]:
        """The record of an image, when its pictures are there."""
        if isinstance(outcome, ImageError):
            return error_record(outcome, thresholds=self.inspector.thresholds, model=self.inspector.model)
        if self._pictures is None or name is None:
            return record_of(outcome.inspection)
        return self._pictures.write(outcome, self._pictures.record_of(outcome, PurePosixPath(name)))


def _named(model: Mapping[str, Any]) -> str:
    return " ".join(str(model[name]) for name in ("backbone", "method", "fingerprint", "version"))
