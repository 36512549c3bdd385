"""What a run that was cut off has left, and what of it stays: the first records whose line and pictures are complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from blemish.errors import UsageError
from blemish.io.json_files import read_json
from blemish.io.run_files import LINES_FILE, MAPS, MASKS, OVERLAYS, RUN_FILE

__all__ = ["began_only", "check_identity", "open_locked", "recover", "remove_remains"]

# How a complete file of this kind ends. A file that power loss has cut short, or left empty, does not.
ENDS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".npz": b"\0\0"}


LATER_SETTINGS = ("engine", "precision")  # which older runs do not name


def recover(path: Path) -> int:
    """Cuts the records in `path` after the last one that is complete, with all before it; how many stay.

    A record is complete if its line is, and every picture that it names. Half-written files are removed; pictures whose record
    is gone stay, to be replaced when their images are inspected again.
    """
    remove_remains(path)
    count = end = 0
    with (path / LINES_FILE).open("r+b") as lines:
        for line in lines:
            if not _is_complete(line, path):
                break
            count, end = count + 1, end + len(line)
        lines.truncate(end)
    return count


def remove_remains(path: Path) -> None:
    """Removes files that processes have left half-written in a folder of results when they were killed."""
    for folder in (path, *(path / name for name in (OVERLAYS, MASKS, MAPS))):
        for left in folder.glob(".*.tmp") if folder == path else folder.rglob(".*.tmp"):
            left.unlink()


def check_identity(path: Path, now: Mapping[str, Any]) -> None:
    """UsageError, with every difference, where the run in `path` was not begun as `now` says."""
    before = read_json(path / RUN_FILE).get("identity")
    if before is None:
        raise UsageError(f"{path}: the run there does not say how it was begun, and cannot be resumed")
    before, now = _flat(before), _flat(json.loads(json.dumps(now)))  # tuples are lists, as in the file
    differences = [
        f"{what.replace('_', ' ')} {_shown(before.get(what))}, not {_shown(now.get(what))}"
        for what in {**before, **now}
        if before.get(what) != now.get(what) and (what in before or what not in LATER_SETTINGS)
    ]
    if differences:
        raise UsageError(
            f"{path}: --resume goes on with the same run only, but that was begun with {'; '.join(differences)}"
        )


def began_only(path: Path) -> bool:
    """Whether all that is in `path` is the beginning of a run that ended before its run.json was there."""
    left = [file for file in path.iterdir() if not (file.name.startswith(".") and file.suffix == ".tmp")]
    return [file.name for file in left] == [LINES_FILE] and not left[0].stat().st_size


def open_locked(path: Path) -> TextIO:
    """The file, to be appended to by this process alone until it is closed; UsageError where another one holds it.

    Where the system knows no locks that end with their process (Windows), nothing is held.
    """
    stream = path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError as error:
        stream.close()
        raise UsageError(
            f"{path.parent}: another run is writing there; wait for its end, or choose another folder"
        ) from error
    return stream


def _is_complete(line: bytes, path: Path) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        record = json.loads(line)
        pictures = [record[name] for name in ("overlay", "mask", "maps") if record[name] is not None]
    except (ValueError, KeyError, TypeError):
        return False
    return all(_ends_well(path / picture) for picture in pictures)


def _ends_well(picture: Path) -> bool:
    end = ENDS[picture.suffix]
    try:
        with picture.open("rb") as stream:
            stream.seek(-len(end), 2)
            return stream.read() == end
    except OSError:  # not there, or shorter than its end
        return False


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Tables in it as entries of their own: {"a": {"b": 1}} is {"a b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        inner = {f"{name} {key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
        flat.update(inner)
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_shown(inner) for inner in value) or "nothing"
    return "none" if value in (None, "") else str(value)
