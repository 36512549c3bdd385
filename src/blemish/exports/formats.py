"""What an export format is, and writing a finished run in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.errors import UsageError
from blemish.exports import FORMATS
from blemish.runs.reading import Run, read_run

__all__ = ["Format", "export"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format that other tools read."""

    write: Callable[..., int]  # (run, out, **options) -> how many images it wrote
    writes_folder: bool = False  # whether `out` is a new folder, not a file
    options: tuple[str, ...] = ()  # keywords of `write` that a user may give
    lists_unreadable: bool = False  # whether images that could not be inspected are in it, too


def export(
    run: Run | str | Path,
    format_name: str,
    *,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> int:
    """Writes a finished run for another tool, as `blemish export` does.

    Args:
        run: The folder of its results.
        format_name: "coco", "csv", "fiftyone", "label-studio", "masks", "parquet", "yolo-seg", or a plug-in's (docs/exports.md).
        out: The file, or the new folder, to write.
        options: Keywords of the format, `{"rle": True}` for COCO.
        overwrite: Whether a file that is there is replaced.

    Returns:
        How many images are in it.

    Raises:
        UsageError: The format is unknown, knows no such option, or something else is at `out`.

    Example:
        >>> export("results", "coco", out="coco.json")
        2
    """
    run, out = run if isinstance(run, Run) else read_run(run), Path(out).expanduser()
    chosen: Format = FORMATS[format_name]
    for option in options or {}:
        if option not in chosen.options:
            raise UsageError(f"--{option.replace('_', '-')} is no option of the format {format_name}")
    if not chosen.writes_folder and out.is_dir():
        raise UsageError(f"{out}: is a folder; name a file")
    if not chosen.writes_folder and out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already; --overwrite replaces it")
    return chosen.write(run, out, **(options or {}))
