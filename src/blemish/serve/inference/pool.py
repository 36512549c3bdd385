"""The queue before the model, and the worker processes behind it: bounded, supervised, in batches.

A task is taken once it has been accepted, and its future gets a result or an error whatever befalls a worker: a process that
falls, or takes too long, is replaced, and the images of its batch are done again, each alone, so that one that kills a
process harms no other.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from blemish.errors import BlemishError
from blemish.serve.inference.messages import read_message, write_message

__all__ = ["InferencePool", "InferenceTask", "QueueFullError", "TaskResult"]

logger = logging.getLogger(__name__)

MODULE = "blemish.serve.inference.worker"
START_S = 120.0  # a process has started, and its first model is loaded
MOST_ATTEMPTS = 3  # processes that one image may bring down
RESTART_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # pauses before a process is started again
FIRST_GUESS_S = 0.2  # seconds an image, before any was measured
SMOOTHING = 0.1  # share of the newest batch in the mean
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# To glibc's malloc (others ignore it): a worker allocates the same again for every batch. What a batch frees stays with the
# process, in one heap for all threads, so that its memory stays what the largest batch needs; a block above 32 MB, as of one
# huge image, goes back to the system.
MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # bytes; the most that malloc takes
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}


class QueueFullError(BlemishError):
    """No image can wait any more; `retry_after_s` is when there will be room."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class TaskResult:
    """What became of an image: its record, or an error."""

    record: Mapping[str, Any] | None  # as in results.jsonl
    min_lead: float = 0.0  # 0..1
    maps_bytes: int | None = None  # of the file with its maps; None where there is none
    setup: Mapping[str, Any] | None = None  # what decides the scores (`calibration.Setup`)
    error: str | None = None  # one line
    error_kind: str | None = None  # image: it cannot be read; setup, model, worker: the service could not


@dataclass(eq=False)
class InferenceTask:
    """An image to inspect."""

    id: str
    path: str  # of the file
    name: str  # what its record calls it
    maps: str | None  # where its maps are written
    setup: Mapping[str, Any]  # {"config": tables, "calibration": path or None}
    future: Future[TaskResult] = field(default_factory=Future)
    attempts: int = 0  # processes that ended with it

    @property
    def message(self) -> dict[str, Any]:
        return {"id": self.id, "path": self.path, "name": self.name, "maps": self.maps, "setup": self.setup}


class InferencePool:
    """Worker processes and the queue before them.

    Args:
        workers: processes, one thread each.
        most_waiting: tasks that may wait.
        batch_size: tasks that a worker gets at once.
        wait_s: how long a batch waits for more tasks.
        image_limit_s: how long a worker may be silent over a batch before it is replaced.
        warm_up: the setup that a new worker loads before its first batch.
        environment: variables of the processes, besides this one's.
    """

    def __init__(
        self,
        *,
        workers: int,
        most_waiting: int = 64,
        batch_size: int = 8,
        wait_s: float = 0.02,
        image_limit_s: float = 60.0,
        warm_up: Callable[[], Mapping[str, Any] | None] = lambda: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.workers = workers
        self.most_waiting = most_waiting
        self.batch_size = batch_size
        self.wait_s = wait_s
        self.image_limit_s = image_limit_s
        self.restarts = 0  # of processes that fell
        self.done = 0  # tasks
        self.facts: dict[str, Any] = {}  # what the first worker said of the model
        self._warm_up = warm_up
        self._environment = dict(environment or {})
        self._waiting: deque[InferenceTask] = deque()
        self._again: deque[InferenceTask] = deque()  # tasks whose process fell: each goes alone
        self._running: set[InferenceTask] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._reserved = 0  # places for tasks that are being accepted
        self._asking = 0  # workers that wait for tasks
        self._ready: set[int] = set()
        self._seconds_an_image = FIRST_GUESS_S
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._threads = [
            threading.Thread(target=self._supervise, args=(number,), name=f"blemish-worker-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Tasks in the queue."""
        return len(self._waiting) + len(self._again)

    @property
    def running(self) -> int:
        """Tasks that a worker has."""
        return len(self._running)

    @property
    def is_ready(self) -> bool:
        """Whether a worker has a model and waits for images."""
        return bool(self._ready)

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that run."""
        return [child.pid for child in list(self._children.values()) if child.poll() is None]

    @property
    def promise_s(self) -> float:
        """How long an image that is accepted now should take at most."""
        batch = self.batch_size * self._seconds_an_image
        return (self.waiting + self.running + 1) * self._seconds_an_image / self.workers + batch + self.wait_s

    @property
    def room(self) -> int:
        """Tasks that would be taken now."""
        return max(0, self.most_waiting - self.waiting - self._reserved)

    @contextmanager
    def reserved(self, count: int) -> Iterator[None]:
        """Places for so many tasks, which are submitted within the block.

        Raises:
            QueueFullError: They would not fit, or the service is stopping.
        """
        with self._changed:
            if self._closing or count > self.room:
                raise QueueFullError(max(1.0, count * self._seconds_an_image / self.workers))
            self._reserved += count
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= count

    def submit(self, *tasks: InferenceTask) -> None:
        """Takes tasks that were accepted; their futures get the results."""
        with self._changed:
            self._waiting.extend(tasks)
            self._changed.notify_all()

    def cancel(self, task: InferenceTask) -> bool:
        """Whether the task left the queue; False where a worker has it already, or has done it."""
        with self._changed:
            for queue in (self._waiting, self._again):
                if task in queue:
                    queue.remove(task)
                    task.future.cancel()
                    return True
        return False

    def close(self, *, limit_s: float = 30.0) -> None:
        """Ends gracefully: what waits is left (it is in the database), what runs is finished."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for child in list(self._children.values()):
            _end(child)

    def _supervise(self, number: int) -> None:
        failures = 0
        while not self._closing:
            if failures:
                pause = RESTART_S[min(failures - 1, len(RESTART_S) - 1)]
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause)
            if self._closing:
                return
            served = self._run_worker(number)
            self._ready.discard(number)
            failures = 0 if served else failures + 1

    def _run_worker(self, number: int) -> bool:
        """Runs one process until it ends or the pool closes; whether it did any batch."""
        child = self._start()
        if child is None:
            return False
        self._children[number] = child
        if "error" not in self.facts:
            self._ready.add(number)
        served = False
        try:
            while (batch := self._next_batch()) is not None:
                if not self._do(child, batch):
                    self._put_back(batch)
                    self.restarts += 1
                    logger.warning("a worker process ended (code %s); it is replaced", child.poll())
                    return served
                served = True
                self._ready.add(number)
            return True
        finally:
            _end(child)
            self._children.pop(number, None)

    def _start(self) -> subprocess.Popen[bytes] | None:
        """A process with its model loaded; None where it does not get that far."""
        environment = {
            **MEMORY,
            **os.environ,
            **THREADS,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
            **self._environment,
        }
        child = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the other
        )
        with _ended_after(child, START_S):
            hello = _heard(child)
            setup = self._warm_up()
            if hello is not None and setup is not None:
                facts = self._warm(child, setup)
                if facts is not None and (facts or not self.facts):
                    self.facts = facts
                hello = None if facts is None else hello
        if hello is None:
            _end(child)
            self.restarts += 1
            logger.error("a worker process did not start (code %s)", child.poll())
            return None
        return child

    def _warm(self, child: subprocess.Popen[bytes], setup: Mapping[str, Any]) -> dict[str, Any] | None:
        if not _told(child, {"warm_up": setup}):
            return None
        facts = _heard(child)
        return facts if facts is not None and _heard(child) is not None else None

    def _next_batch(self) -> list[InferenceTask] | None:
        """The next tasks; None where the pool closes."""
        with self._changed, self._counted():
            self._changed.wait_for(lambda: self._closing or self._waiting or self._again)
            if self._closing:
                return None
            if self._again:
                batch = [self._again.popleft()]
            else:
                until = time.monotonic() + self.wait_s
                while 0 < len(self._waiting) < self.batch_size and time.monotonic() < until and not self._closing:
                    self._changed.wait(max(0.0, until - time.monotonic()))
                # a short queue is shared among the workers that have nothing to do, not left to one of them
                count = min(self.batch_size, -(-len(self._waiting) // self._asking))
                batch = [self._waiting.popleft() for _ in range(count)]
            self._running.update(batch)
            return batch

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    def _do(self, child: subprocess.Popen[bytes], batch: list[InferenceTask]) -> bool:
        """Whether the process answered for all tasks of the batch; those that it answered for are removed from it."""
        if not batch:
            return True
        count = len(batch)
        limit_s = self.image_limit_s + START_S * (not self.done)
        if not _told(child, {"batch": [task.message for task in batch]}):
            return False
        tasks = {task.id: task for task in batch}
        while True:
            with _ended_after(child, limit_s):
                answer = _heard(child)
            if answer is None:
                return False
            if "done" in answer:
                self._measure(float(answer["done"]) / count)
                return not batch
            task = tasks[answer["id"]]
            batch.remove(task)
            self._settle(task, _result(answer))

    def _put_back(self, batch: list[InferenceTask]) -> None:
        """Queues the tasks of a process that fell again, first of all and each alone, unless one has felled too many."""
        for task in batch:
            task.attempts += 1
            if task.attempts >= MOST_ATTEMPTS:
                why = f"the process that inspects ended {task.attempts} times with this image"
                self._settle(task, TaskResult(None, error=why, error_kind="worker"))
                continue
            with self._changed:
                self._running.discard(task)
                self._again.append(task)
                self._changed.notify_all()

    def _settle(self, task: InferenceTask, result: TaskResult) -> None:
        with self._changed:
            self._running.discard(task)
            self.done += 1
        with suppress(InvalidStateError):  # cancelled meanwhile
            task.future.set_result(result)

    def _measure(self, seconds: float) -> None:
        self._seconds_an_image += SMOOTHING * (seconds - self._seconds_an_image)


@contextmanager
def _ended_after(child: subprocess.Popen[bytes], limit_s: float) -> Iterator[None]:
    """Ends the process where the block takes longer than so many seconds."""
    timer = threading.Timer(limit_s, child.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _result(answer: Mapping[str, Any]) -> TaskResult:
    if "error" in answer:
        return TaskResult(None, error=answer["error"], error_kind=answer["kind"])
    return TaskResult(
        answer["record"], min_lead=answer["min_lead"], maps_bytes=answer["maps_bytes"], setup=answer["setup"]
    )


def _told(child: subprocess.Popen[bytes], message: Mapping[str, Any]) -> bool:
    stream: IO[bytes] | None = child.stdin
    assert stream is not None
    try:
        write_message(stream, message)
    except (OSError, ValueError):
        return False
    return True


def _heard(child: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    stream: IO[bytes] | None = child.stdout
    assert stream is not None
    try:
        return read_message(stream)
    except (OSError, ValueError):
        return None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the process, if it has not ended, and closes its pipes."""
    with suppress(OSError):
        child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
