"""`blemish export-model`: the model as ONNX and OpenVINO IR, in a folder that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.options import Quiet, configured
from blemish.config import Config

__all__ = ["export_model"]

MOST_IMAGES = 16  # to compare with torch on


@configured("model", "vocabulary", without=("engine", "device", "precision", "compiled", "threads"))
def export_model(
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The folder to write.")],
    input_px: Annotated[
        int | None,
        typer.Option("--input-px", metavar="PIXELS", help="Side of the square that images are resized to."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="PATH",
            help="Images to compare the exported model with torch on: a folder or a pattern. Default: two rendered ones.",
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", help="Largest error of a score or a map beside torch, 0..1; above it, nothing is written."
        ),
    ] = 1e-4,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also write the model in int8, where held-out rendered pictures show a loss of AUROC below 0.002. Minutes.",
        ),
    ] = False,
    int8_photos: Annotated[
        int, typer.Option("--int8-photos", metavar="N", help="Photos that --int8 is judged on.")
    ] = 200,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    quiet: Quiet = False,
    config: Config,
) -> None:
    """Write a model as ONNX and OpenVINO IR, with its thresholds and the text features of its defect types.

    The folder is a backbone for every command: `blemish inspect photos --backbone FOLDER`, also where torch is not installed.
    """
    from blemish.engines.exporting import export_model as write
    from blemish.images import find_images, read
    from blemish.inspection.load import choose_vocabulary

    done = write(
        config.model,
        out,
        vocabulary=choose_vocabulary(config.vocabulary),
        input_px=input_px,
        images=None if images is None else [read(image.path) for image in find_images(images)[:MOST_IMAGES]],
        tolerance=tolerance,
        int8_photos=int8_photos if int8 else 0,
        overwrite=overwrite,
    )
    if quiet:
        return
    for library, error in done.errors.items():
        typer.echo(f"{library}: largest error of a score or map beside torch {error:.1e}, on {done.images} images")
    if done.int8:
        typer.echo(f"int8 {done.int8}")
    typer.echo(f"exported: {done.folder} ({done.bytes / 2**20:.0f} MB)")
    typer.echo(f"run it: blemish inspect photos --backbone {done.folder}")
    typer.echo(f"without torch: pip install --no-deps blemish && pip install -r {done.folder}/requirements.txt")
