"""JSON in files: one object, or one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blemish.errors import UsageError
from blemish.io.atomic import reason

__all__ = ["json_line", "json_text", "read_json", "read_json_if_there", "read_json_lines"]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UsageError: The file is not there, is not JSON, or holds something else than one object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason(error)})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: holds no JSON object")
    return data


def read_json_if_there(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, or it is damaged."""
    try:
        return read_json(path)
    except UsageError:
        return {}


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a file of JSON lines, one by one; a last line without its line feed was cut off and is left out.

    Raises:
        UsageError: The file is not there, or a line is not JSON.
    """
    try:
        with path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield json.loads(line)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason(error)})") from error
    except ValueError as error:
        raise UsageError(f"{path}: cannot be read (a line is not JSON)") from error


def json_line(data: Any, *, ascii_only: bool = False) -> str:
    """The data as one line of JSON without its line feed; `ascii_only` for streams of unknown encoding.

    Example:
        >>> json_line({"verdict": "ok"})
        '{"verdict":"ok"}'
    """
    return _dump(data, ascii_only=ascii_only, separators=(",", ":"))


def json_text(data: Any) -> str:
    """The data as indented JSON with a line feed at its end."""
    return _dump(data, indent=2) + "\n"


def _dump(data: Any, *, ascii_only: bool = False, **options: Any) -> str:
    text = json.dumps(data, ensure_ascii=ascii_only, allow_nan=False, **options)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not valid text: JSON can still escape it
        return json.dumps(data, ensure_ascii=True, allow_nan=False, **options)
    return text
