"""How many worker processes a run gets: those that were asked for, else what a short measurement finds to be faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from blemish.images.limits import free_memory
from blemish.inspection.inspector import Inspector
from blemish.io.processors import free_processors
from blemish.runs.work import ImageJob, ImageWork, WorkOrder
from blemish.runs.workforce import Workforce

__all__ = ["choose_workforce"]

LEAST_IMAGES, LEAST_S = 500, 120.0  # of a run that is worth a measurement: it takes about as long as 60 images
BATCHES = 3  # that are measured, after one that is not: the first takes longer
WORKER_BYTES = 2**30  # of memory that a process may come to take (docs/scale.md)
CLEARLY = 1.1  # so much faster must more processes be than one

Jobs = Callable[[int], Iterator[ImageJob]]  # the jobs of a run, for so many workers


@contextmanager
def choose_workforce(
    inspector: Inspector, order: WorkOrder, jobs: Jobs, *, workers: int | None
) -> Iterator[Workforce | None]:
    """The processes that inspect, or None where this one does it alone.

    Args:
        inspector: That of this process.
        order: What the processes are told.
        jobs: The work of the run; measured on its first images, whose pictures are written again later.
        workers: How many; 0 for none; None for what is faster.
    """
    if workers == 0:
        yield None
        return
    if workers is not None:
        with Workforce(order, count=workers, thresholds=inspector.thresholds) as workforce:
            yield workforce
        return
    count = _most_workers()
    images = sum(len(job.paths) for job in jobs(1))
    if count < 2 or images < LEAST_IMAGES or order.config.get("model", {}).get("device", "cpu") != "cpu":
        yield None
        return
    sample = list(islice((batch for job in jobs(1) for batch in job.batches()), (1 + BATCHES) * count))
    alone = _rate_alone(inspector, order, sample[: 1 + BATCHES])
    if images / alone >= LEAST_S:
        with Workforce(order, count=count, thresholds=inspector.thresholds) as workforce:
            if _rate(workforce, sample) > CLEARLY * alone:
                yield workforce
                return
    yield None


def _rate_alone(inspector: Inspector, order: WorkOrder, sample: list[ImageJob]) -> float:
    """Images a second in this process."""
    work = ImageWork(order, inspector)
    for _ in work.records(sample[0]):
        pass
    started = time.perf_counter()
    count = sum(1 for job in sample[1:] for _ in work.records(job))
    return count / max(time.perf_counter() - started, 1e-9)


def _rate(workforce: Workforce, sample: list[ImageJob]) -> float:
    """Images a second of all processes together, once each has loaded its model and done a batch."""
    for _ in workforce.records(iter(sample[: workforce.count])):
        pass
    started = time.perf_counter()
    count = sum(1 for _ in workforce.records(iter(sample[workforce.count :])))
    return count / max(time.perf_counter() - started, 1e-9)


def _most_workers() -> int:
    """As many processes as there are cores for this one, and as fit into memory."""
    free = free_memory()
    return free_processors() if free is None else min(free_processors(), free // WORKER_BYTES)
