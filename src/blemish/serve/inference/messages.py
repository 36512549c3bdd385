"""What the service and a worker process say to each other: one JSON object a line, over the worker's stdin and stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

__all__ = ["read_message", "write_message"]


def write_message(stream: IO[bytes], message: Mapping[str, Any]) -> None:
    """Writes one message; OSError or ValueError where the other side is gone."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """The next message; None where the other side has ended."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    return message
