"""A worker process as the service sees it: started, spoken to, ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from blemish.serve.inference.messages import read_message, write_message

__all__ = ["MEMORY", "answer_of", "end_child", "ended_after", "send_to", "start_child"]

MODULE = "blemish.serve.inference.worker"
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# To glibc's malloc (others ignore it): a worker allocates the same again for every batch. What a batch frees stays with the
# process, in one heap for all threads, so that its memory stays what the largest batch needs; a block above 32 MB, as of one
# huge image, goes back to the system.
MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # bytes; the most that malloc takes
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}


def start_child(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process of one thread that inspects, with these variables besides this process's."""
    return subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **MEMORY,
            **os.environ,
            **THREADS,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
            **environment,
        },
        start_new_session=True,  # Ctrl-C is for this process, which then ends the other
    )


@contextmanager
def ended_after(child: subprocess.Popen[bytes], limit_s: float) -> Iterator[None]:
    """Ends the process where the block takes longer than so many seconds."""
    timer = threading.Timer(limit_s, child.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def send_to(child: subprocess.Popen[bytes], message: Mapping[str, Any]) -> bool:
    """Sends the process a message; whether it could be."""
    stream: IO[bytes] | None = child.stdin
    assert stream is not None
    try:
        write_message(stream, message)
    except (OSError, ValueError):
        return False
    return True


def answer_of(child: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The next message of the process; None where it has ended."""
    stream: IO[bytes] | None = child.stdout
    assert stream is not None
    try:
        return read_message(stream)
    except (OSError, ValueError):
        return None


def end_child(child: subprocess.Popen[bytes]) -> None:
    """Ends the process, if it has not ended, and closes its pipes."""
    with suppress(OSError):
        child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
