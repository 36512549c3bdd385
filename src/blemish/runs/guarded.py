"""Batches that another process has loaded, scored in a process of their own that may end without loss."""

from __future__ import annotations

import queue
from typing import Any

from blemish.errors import ImageError, ModelError
from blemish.results import ModelInfo, Thresholds
from blemish.runs.packing import PackedBatch, pack, unpack
from blemish.runs.records import error_record
from blemish.runs.work import WorkOrder
from blemish.runs.workforce import BATCH_TRIES, IMAGE_TRIES, START_TRIES, WorkerProcess, refusal

__all__ = ["GuardedWork"]


class GuardedWork:
    """One worker process, replaced when it ends; `close` ends it.

    Args:
        order: What it is told.
        thresholds: Of the records of images with which processes end.
    """

    def __init__(self, order: WorkOrder, *, thresholds: Thresholds) -> None:
        self._order = order
        self._thresholds = thresholds
        self._said: queue.SimpleQueue[tuple[WorkerProcess, dict[str, Any] | None]] = queue.SimpleQueue()
        self._worker = WorkerProcess(order, self._said)
        self._failed_starts = 0

    def records(self, payload: bytes) -> list[dict[str, Any]]:
        """The records of a packed batch; images that end every process that scores them have an error.

        Raises:
            BlemishError: Nothing can be scored, for a reason that holds for all images.
        """
        for _ in range(BATCH_TRIES):
            records, _ = self._try(payload)
            if records is not None:
                return records
        return [self._record_alone(batch) for batch in unpack(payload).alone()]

    def close(self) -> None:
        """Ends the process."""
        self._worker.stop(at_once=True)

    def _record_alone(self, batch: PackedBatch) -> dict[str, Any]:
        image = batch.images[0]
        with_pictures = not isinstance(image, ImageError) and image.picture.pixels.strides != (0, 0, 0)
        how = ""
        for _ in range(IMAGE_TRIES):
            records, how = self._try(pack(batch, with_pictures=with_pictures))
            if records is not None:
                return records[0]
        source = image.source
        error = ImageError(source, f"the process that inspected it ended {IMAGE_TRIES} times ({how})")
        return error_record(error, thresholds=self._thresholds, model=ModelInfo(**self._order.model))

    def _try(self, payload: bytes) -> tuple[list[dict[str, Any]] | None, str]:
        """The records of a batch, or None and how the process has ended."""
        self._worker.give_packed(payload)
        records: list[dict[str, Any]] = []
        while True:
            worker, said = self._said.get()
            if worker is not self._worker:
                continue
            if said is None:
                how = worker.stop(at_once=True)
                self._failed_starts = 0 if worker.ready else self._failed_starts + 1
                if self._failed_starts >= START_TRIES:
                    raise ModelError(f"a worker process does not start ({how}): {worker.last_words}")
                self._worker = WorkerProcess(self._order, self._said)
                if not worker.ready:  # the batch is not to blame
                    self._worker.give_packed(payload)
                    continue
                return None, how
            if "record" in said:
                records.append(said["record"])
            elif "done" in said:
                return records, ""
            elif "ready" in said:
                worker.ready = True
            elif "failed" in said:
                worker.failure = said["failed"]
            else:
                worker.stop(at_once=True)
                self._worker = WorkerProcess(self._order, self._said)
                raise refusal(said["kind"], said["refused"])
