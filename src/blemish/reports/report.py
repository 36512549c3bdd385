"""A finished run as one page, and as a contact sheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.errors import UsageError
from blemish.io.progress import Reporter
from blemish.reports.page import write_run_page
from blemish.reports.sample import MOST_ON_PAGE, sample_records, sample_words
from blemish.reports.sheet import write_contact_sheet
from blemish.runs.reading import read_records, read_run

__all__ = ["WrittenReport", "report"]

PAGE_FILE = "report.html"


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """What was written."""

    path: Path  # the page
    images: int  # images on the page
    sheet: Path | None = None  # the contact sheet


def report(
    run: str | Path,
    *,
    out: str | Path | None = None,
    inline: bool = False,
    sheet: str | Path | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> WrittenReport:
    """Writes a finished run as one page to look through offline, as `blemish report` does.

    Args:
        run: The folder of its results.
        out: The page, an .html file; None for report.html in the folder of results.
        inline: Put pictures of full size into the page, too, instead of links to them.
        sheet: Write a contact sheet, too (.jpg, .png): the highest scores first.
        overwrite: Replace the page and the sheet. The page in the folder of results is always replaced.
        reporter: Is told how the work goes on.

    Returns:
        Where the page is, and how many images are on it.

    Raises:
        UsageError: There is no finished run, or a file is there already.
        OutputError: The page cannot be written.

    Example:
        >>> report("results").images
        2
    """
    finished = read_run(run)
    path = finished.path / PAGE_FILE if out is None else Path(out).expanduser()
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: the page is an .html file")
    contact_sheet = None if sheet is None else Path(sheet).expanduser()
    for file in (path if out is not None else None, contact_sheet):
        if file is not None and file.exists() and not overwrite:
            raise UsageError(f"{file}: is there already; --overwrite replaces it")
    images = sum(finished.record["counts"].values())
    records: Iterable[Mapping[str, Any]] = read_records(finished.path)
    sample = ""
    if images > MOST_ON_PAGE:
        records, sample = sample_records(records, MOST_ON_PAGE), sample_words(finished.record["counts"], MOST_ON_PAGE)
        images = MOST_ON_PAGE
    with (reporter or Reporter()).progress("drawing", images) as advance:
        count = write_run_page(
            finished.path, finished.record, records, path, inline=inline, sample=sample, advance=advance
        )
    if contact_sheet is not None:
        write_contact_sheet(finished.path, contact_sheet)
    return WrittenReport(path=path, images=count, sheet=contact_sheet)
