"""The process that decodes for `isolation`: requests on stdin, samples on stdout, until stdin ends."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from typing import IO, Any

from blemish.errors import ImageError
from blemish.images import isolation
from blemish.images.boundary import NO_MEMORY
from blemish.images.reader import decode_here

__all__: list[str] = []


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    isolation.send(answers, {"ready": True}, {})
    while True:
        try:
            request, _ = isolation.receive(requests)
        except (EOFError, OSError):
            return
        body = requests.read(request["bytes"]) if request["bytes"] else None
        _limit(request["memory"], request["seconds"])
        said, arrays = _answer(request, body)
        isolation.send(answers, said, arrays)


def _answer(request: dict[str, Any], body: bytes | None) -> tuple[dict[str, Any], dict[str, Any]]:
    item = os.fsdecode(bytes.fromhex(request["path"])) if body is None and request["path"] is not None else body or b""
    source = bytes.fromhex(request["source"]).decode("utf-8", "surrogateescape")
    try:
        samples = decode_here(item, source=source, max_megapixels=request["max_megapixels"])
    except ImageError as error:
        return {"error": error.reason}, {}
    except MemoryError:
        return {"error": NO_MEMORY}, {}
    said = {
        "error": None,
        "declared_bits": samples.declared_bits,
        "inverted": samples.inverted,
        "window": samples.window,
        "tags": dict(samples.tags),
    }
    arrays = {name: getattr(samples, name) for name in isolation.ARRAYS}
    return said, {name: array for name, array in arrays.items() if array is not None}


def _limit(most_bytes: int | None, most_seconds: float) -> None:
    """Lets this process take no more memory and processor time than that beside what it has taken, where the system can."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])  # the system's time and the user's
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + most_seconds), hard))
        if most_bytes is not None:
            with open("/proc/self/statm", encoding="ascii") as status:  # noqa: PTH123
                held = int(status.read().split()[0]) * resource.getpagesize()
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (held + most_bytes, hard))


if __name__ == "__main__":
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints goes astray, not among the answers
    _serve(sys.stdin.buffer, answers)
