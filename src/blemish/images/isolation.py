"""Decoding in a process of its own: what crashes, stalls or fills the memory there becomes an ImageError here.

A few processes (`decoder_process`) are started when the first file needs one, and serve one file after the other. They get
a request as a line of JSON and answer with one, and with the bytes of arrays: nothing that is run when it is read.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.images.depth import Samples
from blemish.images.limits import free_memory
from blemish.images.opened import OpenedImage

__all__ = ["can_isolate", "decode_isolated", "receive", "send", "stop_all", "time_limit"]

MODULE = "blemish.images.decoder_process"
MOST_PROCESSES = 4
START_S = 60.0  # to start a process, on a machine that is busy
# The processor time that a file gets: a few times what the slowest decoders need for it. On the clock it may take longer, for a
# machine may be busy with other things.
BASE_S, PER_MEGABYTE_S, PER_MEGAPIXEL_S = 4.0, 1.0, 0.05
CLOCK_FACTOR = 10.0
MEMORY_SHARE, LEAST_MEMORY = 0.8, 2**30  # of the free memory, a process may take so much
ARRAYS = ("values", "coverage", "inside")

_processes: list[_Process] = []  # those that wait for work
_slots = threading.BoundedSemaphore(MOST_PROCESSES)
_lock = threading.Lock()
_owner = os.getpid()
_failed_to_start = False


def can_isolate() -> bool:
    """Whether a process can be started: not in a program that carries its Python inside, nor inside such a process."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and not _failed_to_start


def time_limit(found: OpenedImage) -> float:
    """The seconds of processor time that a file gets, by its bytes and pixels."""
    megapixels = found.width_px * found.height_px / 1e6
    return BASE_S + PER_MEGABYTE_S * found.file_bytes / 1e6 + PER_MEGAPIXEL_S * megapixels


def decode_isolated(item: Any, found: OpenedImage, *, max_megapixels: float) -> Samples | None:
    """The samples of a file or its bytes, decoded elsewhere; None where no process can be started.

    ImageError where the file cannot be decoded, takes too long, or its decoder crashes.
    """
    source, limit_s = found.source, time_limit(found)
    body = bytes(item) if isinstance(item, bytes | bytearray | memoryview) else None
    request = {
        # absolute: this program may have changed its folder since the process was started
        "path": None if body is not None else os.fsencode(os.path.abspath(os.fsdecode(item))).hex(),  # noqa: PTH100
        "bytes": 0 if body is None else len(body),
        "source": source.encode("utf-8", "surrogateescape").hex(),
        "max_megapixels": max_megapixels,
        "memory": _memory_limit(),
        "seconds": limit_s,
    }
    with _slots:
        process = _take()
        if process is None:
            return None
        try:
            answer = process.ask(request, body, source, limit_s)
        except BaseException:  # also Ctrl-C: an answer that nobody waits for must not be taken for the next one's
            process.stop()
            raise
        _give_back(process)
    if isinstance(answer, str):
        raise ImageError(source, answer)
    return answer


class _Process:
    """One process that decodes, and the pipes to it."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}  # noqa: PTH109
        self.child = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the other
        )
        ready = self._within(START_S, lambda: receive(self._out))
        if ready is None:
            self.stop()
            raise OSError("the process that decodes images does not start")

    @property
    def _out(self) -> IO[bytes]:
        assert self.child.stdout is not None
        return self.child.stdout

    def ask(self, request: Mapping[str, Any], body: bytes | None, source: str, limit_s: float) -> Samples | str:
        """The answer to a request, samples or what is wrong with the file; ImageError where there is none in time."""
        timed_out = threading.Event()

        def exchange() -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
            assert self.child.stdin is not None
            send(self.child.stdin, request, {})
            if body:
                self.child.stdin.write(body)
                self.child.stdin.flush()
            return receive(self._out)

        answer = self._within(CLOCK_FACTOR * limit_s, exchange, timed_out)
        if answer is None or timed_out.is_set():  # an answer that came as the process was ended is the last one of it
            self.stop()
            if timed_out.is_set() or -self.child.returncode == getattr(signal, "SIGXCPU", None):
                raise ImageError(source, f"took longer than {limit_s:.0f} s to decode: it is damaged or made to stall")
            code = self.child.returncode
            raise ImageError(source, f"its decoder crashed ({f'signal {-code}' if code < 0 else f'code {code}'})")
        said, arrays = answer
        if said["error"] is not None:
            return str(said["error"])
        window = said["window"]
        return Samples(
            arrays["values"],
            source,
            declared_bits=said["declared_bits"],
            inverted=said["inverted"],
            coverage=arrays.get("coverage"),
            window=None if window is None else (window[0], window[1]),
            tags=said["tags"],
            inside=arrays.get("inside"),
        )

    def _within(self, limit_s: float, work: Any, timed_out: threading.Event | None = None) -> Any:
        """What `work` gives, or None where the process ends before, as it does after `limit_s` seconds."""

        def end() -> None:
            if timed_out is not None:
                timed_out.set()
            self.child.kill()

        watchdog = threading.Timer(limit_s, end)
        watchdog.daemon = True
        watchdog.start()
        try:
            return work()
        except (OSError, ValueError, EOFError, KeyError):
            return None
        finally:
            watchdog.cancel()

    def stop(self) -> None:
        """Ends the process, if it has not ended, and closes its pipes."""
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be written to it
                    pipe.close()


def send(pipe: IO[bytes], said: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes a line of JSON, which describes the arrays, and then their bytes."""
    shapes = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
    pipe.write(json.dumps({**said, "arrays": shapes}).encode() + b"\n")
    for array in arrays.values():
        pipe.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `send` wrote; EOFError where the other side has ended."""
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    said: dict[str, Any] = json.loads(line)
    arrays: dict[str, NDArray[Any]] = {}
    for name, (kind, shape) in said.pop("arrays").items():
        array = np.empty(shape, np.dtype(kind))
        view = array.data.cast("B") if array.size else memoryview(b"")
        filled = 0
        while filled < len(view):
            count = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            filled += count
        arrays[name] = array
    return said, arrays


def _take() -> _Process | None:
    """A process that waits for work, or a new one; None where none starts."""
    global _owner, _failed_to_start  # noqa: PLW0603
    with _lock:
        if _owner != os.getpid():  # this process was forked: the others' pipes are not its own
            _processes.clear()
            _owner = os.getpid()
        while _processes:
            process = _processes.pop()
            if process.child.poll() is None:
                return process
            process.stop()
    try:
        return _Process()
    except OSError:
        _failed_to_start = True
        return None


def _give_back(process: _Process) -> None:
    if process.child.poll() is None:
        with _lock:
            _processes.append(process)


def _memory_limit() -> int | None:
    free = free_memory()
    return None if free is None else max(LEAST_MEMORY, int(MEMORY_SHARE * free))


@atexit.register
def stop_all() -> None:
    """Ends the processes that wait for work; the next file that needs one starts it."""
    with _lock:
        if _owner == os.getpid():
            while _processes:
                _processes.pop().stop()
