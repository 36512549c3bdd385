"""`blemish demo`: a first look, offline, on real photos and on pictures that Blemish renders itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.inspect import print_summary
from blemish.errors import MissingExtraError

__all__ = ["demo"]

TERMS = (
    "Real photos: solar cells from elpv-dataset (Buerhop-Lutz et al. 2018, Deitsch et al. 2019), "
    "CC BY-NC-SA 4.0: non-commercial use, share alike, with attribution."
)
MISSING = 'No real photos: elpv-dataset is not installed. For them: pip install "blemish[demo]"'
CELLS_EACH = 4  # good and defective cells of each type, the first ones in the data set's own order
RENDER_PX = 384
FIRST_SEED = 60_000_000  # never used in training
# Of the types, those that any scene can show and that a first look finds.
SHOWN = (
    "scratch", "crack", "hole", "dent", "stain", "discolouration", "contamination",
    "thread", "burn", "corrosion", "break", "fray", "extra part",
)  # fmt: skip


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo's pictures and results.")] = Path("blemish-demo"),
) -> None:
    """Inspect a sample of real solar cells and of rendered parts, offline, with the embedded model."""
    from blemish.io.progress import TerminalReporter
    from blemish.reports.sheet import write_contact_sheet
    from blemish.runs.run import inspect_folder

    photos = _solar_cells()
    typer.echo(TERMS if photos else MISSING)
    renders = _render(out / "renders")
    typer.echo(f"Rendered parts: {renders}\n")
    results = out / "results"
    run = inspect_folder([*photos, renders], out=results, overwrite=True, reporter=TerminalReporter())
    print_summary(run)
    sheet = write_contact_sheet(results, out / "contact-sheet.jpg")
    typer.echo(f"\npictures: {results / 'overlays'}\nall on one sheet: {sheet}\ntables: {results / 'results.csv'}")


def _solar_cells() -> list[Path]:
    """The first good and the first defective cells of the data set, mono- and polycrystalline, where it is installed."""
    from blemish.data.elpv import solar_cells

    try:
        cells = solar_cells()
    except MissingExtraError:
        return []
    chosen: list[Path] = []
    for kind in ("mono", "poly"):
        for probability in (0.0, 1.0):
            alike = [cell.path for cell in cells if (cell.kind, cell.defect_probability) == (kind, probability)]
            chosen += alike[:CELLS_EACH]
    return chosen


def _render(folder: Path) -> Path:
    """A few good pictures and one of each shown type, by fixed seeds, as PNG files that say what they show."""
    from blemish.images import save
    from blemish.synthesis import NORMAL, render

    kinds = [*[NORMAL] * 3, *SHOWN]
    for number, kind in enumerate(kinds):
        sample = render(FIRST_SEED + number, size_px=RENDER_PX, defect_type=kind)
        save(sample.image, folder / f"{number:02d}-{sample.defect_type.replace(' ', '-')}.png")
    return folder
