"""Worker processes of one thread each: jobs go out in order, records come back in the order of the images.

A process that ends before its job is done loses nothing: the job goes to another one, a bounded number of times. Messages are
lines of JSON: nothing that is run when it is read.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from blemish import errors
from blemish.errors import BlemishError, ImageError, ModelError
from blemish.results import ModelInfo, Thresholds
from blemish.runs.records import error_record
from blemish.runs.work import ImageJob, WorkOrder

__all__ = ["WorkerProcess", "Workforce", "refusal"]

MODULE = "blemish.runs.worker_process"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
BATCH_TRIES, IMAGE_TRIES = (
    3,
    2,
)  # processes that may end with a batch before its images are taken one by one; with an image
START_TRIES = 5  # processes that may end, one after the other, before they are ready
JOBS_AHEAD = 2  # of one process: it never waits for the next one
JOBS_OPEN = 4  # for each process, from the first image that is not done on: the records that wait are bounded
END_S = 5.0  # to end by itself


class Workforce:
    """So many worker processes; use it in a `with` block, which ends them.

    Args:
        order: What they are told.
        count: How many.
        thresholds: Of the records of images with which processes end.
    """

    def __init__(self, order: WorkOrder, *, count: int, thresholds: Thresholds) -> None:
        self._order = order
        self._thresholds = thresholds
        self._said: queue.SimpleQueue[tuple[WorkerProcess, dict[str, Any] | None]] = queue.SimpleQueue()
        self._failed_starts = 0
        self.replaced = 0  # processes that have ended before their time
        self._again: deque[ImageJob] = deque()  # what processes had that have ended; before all new jobs
        self._done: dict[int, dict[str, Any]] = {}  # records of images whose turn has not come
        self._following = 0  # the number of the image whose turn it is
        self._workers = [WorkerProcess(order, self._said) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop(at_once=kind is not None)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return len(self._workers)

    @property
    def process_ids(self) -> list[int]:
        """The numbers that the system gave the processes that run now."""
        return [worker.process.pid for worker in self._workers]

    def records(self, jobs: Iterator[ImageJob]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The numbers and the records of the images of all jobs, in their order; to be taken to the end.

        Raises:
            BlemishError: A process cannot go on, for a reason that holds for all of them.
        """
        upcoming = next(jobs, None)
        if upcoming is None:
            return
        self._following = upcoming.start
        open_ends: deque[int] = deque()  # the ends of jobs that were handed out and are not done
        while upcoming is not None or open_ends:
            while self._again or (upcoming is not None and len(open_ends) < JOBS_OPEN * self.count):
                worker = min(self._workers, key=lambda each: len(each.jobs))
                if len(worker.jobs) >= JOBS_AHEAD:
                    break
                if self._again:
                    worker.give(self._again.popleft())
                elif upcoming is not None:
                    open_ends.append(upcoming.end)
                    worker.give(upcoming)
                    upcoming = next(jobs, None)
            self._listen()
            while self._following in self._done:
                yield self._following, self._done.pop(self._following)
                self._following += 1
            while open_ends and open_ends[0] <= self._following:
                open_ends.popleft()

    def _listen(self) -> None:
        """Waits for what a process says next, or for its end."""
        try:
            worker, said = self._said.get(timeout=1.0)  # an endless wait could not be interrupted on every system
        except queue.Empty:
            return
        if worker not in self._workers:  # it was replaced
            return
        if said is None:
            self._replace(worker)
        elif "record" in said:
            worker.following = said["number"] + 1
            self._keep(said["number"], said["record"])
        elif "done" in said:
            worker.jobs.popleft()
            worker.following = None
        elif "ready" in said:
            worker.ready = True
            self._failed_starts = 0
        elif "failed" in said:
            worker.failure = said["failed"]
        else:
            raise refusal(said["kind"], said["refused"])

    def _keep(self, number: int, record: dict[str, Any]) -> None:
        if number >= self._following:  # else it was done before by a process that has ended
            self._done.setdefault(number, record)

    def _replace(self, worker: WorkerProcess) -> None:
        """A new process in the place of one that has ended; what it had not done goes out again."""
        how = worker.stop(at_once=True)
        self.replaced += 1
        left = list(worker.jobs)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= START_TRIES:
                raise ModelError(
                    f"worker processes do not start ({how}): {worker.last_words}; --workers 0 does without"
                )
        elif left:
            left = [*self._after_failure(left[0], worker.following, how), *left[1:]]
        self._again.extendleft(reversed(left))
        self._workers[self._workers.index(worker)] = WorkerProcess(self._order, self._said)

    def _after_failure(self, job: ImageJob, following: int | None, how: str) -> list[ImageJob]:
        """What is left of a job with which a process has ended: in smaller pieces the more often it happens."""
        reached = job.start if following is None else following
        if reached >= job.end:
            return []
        batches = job.batches()
        if len(batches) > 1:  # whole batches: the last digits of a score depend on what is computed together
            return [batch for batch in batches if batch.end > reached]
        failures = job.failures + 1
        if len(job.paths) > 1:
            return job.images() if failures >= BATCH_TRIES else [job.part(job.start, job.end, failures=failures)]
        if failures < IMAGE_TRIES:
            return [job.part(job.start, job.end, failures=failures)]
        error = ImageError(job.paths[0], f"the process that inspected it ended {failures} times ({how})")
        model = ModelInfo(**self._order.model)
        self._keep(job.start, error_record(error, thresholds=self._thresholds, model=model))
        return []


class WorkerProcess:
    """One process, the jobs that it has, and a thread that listens to it."""

    def __init__(self, order: WorkOrder, said: queue.SimpleQueue[tuple[WorkerProcess, dict[str, Any] | None]]) -> None:
        self.ready = False
        self.jobs: deque[ImageJob] = deque()
        self.following: int | None = None  # the image after the last one of its first job that is done
        self.failure: str | None = None  # what its code raised
        self.how = ""  # it has ended
        self.last_words = ""  # the last line that it printed; known when it has ended
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `stop`)
        threads = {name: str(order.threads) for name in THREAD_VARIABLES}
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109
        self.process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **threads, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the process that started it, which then ends it
        )
        self._send(order.to_dict())
        self._listener = threading.Thread(target=self._listen, args=(said,), daemon=True)
        self._listener.start()

    def give(self, job: ImageJob) -> None:
        """Hands it a job; where it has just ended, the listener says so."""
        self.jobs.append(job)
        told = {"start": job.start, "paths": job.paths, "names": job.names, "starts": job.starts}
        self._send(told)

    def give_packed(self, payload: bytes) -> None:
        """Hands it a packed batch."""
        self._send({"packed": len(payload)}, payload)

    def stop(self, *, at_once: bool) -> str:
        """Ends it, once; how it has ended."""
        if self._log.closed:
            return self.how
        if at_once:
            self.process.kill()
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            code = self.process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._listener.join()
        self.process.stdout.close()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        self.last_words = lines[-1] if lines else "it printed nothing"
        self._log.close()
        self.how = f"exit code {code}"
        with suppress(ValueError):
            self.how = f"killed by {signal.Signals(-code).name}"
        self.how = self.failure or self.how
        return self.how

    def _send(self, said: Any, body: bytes = b"") -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended: the listener says so
            self.process.stdin.write(json.dumps(said).encode() + b"\n")
            self.process.stdin.write(body)
            self.process.stdin.flush()

    def _listen(self, said: queue.SimpleQueue[tuple[WorkerProcess, dict[str, Any] | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                said.put((self, json.loads(line)))
        said.put((self, None))


def refusal(kind: str, message: str) -> BlemishError:
    """The error that a process has raised, in this one."""
    found = getattr(errors, kind, BlemishError)
    error: BlemishError = found.__new__(found)
    Exception.__init__(error, message)
    return error
