"""`blemish engines`: what can run the model here, and how fast."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from blemish.cli.options import configured
from blemish.config import Config

__all__ = ["engines"]


@configured("model", without=("engine", "device", "precision", "compiled", "batch_size"))
def engines(
    *,
    input_px: Annotated[
        int | None,
        typer.Option("--input-px", metavar="PIXELS", help="Side of the square that images are resized to."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config,
) -> None:
    """List the engines: which are installed, images a second measured on this machine, and how far their scores are from torch's.

    The figures are of the image side of the model, one batch of two rendered images, beside torch; a busy machine changes them.
    """
    from blemish.engines.measuring import measure_engines

    found = measure_engines(config.model, input_px=input_px)
    if as_json:
        typer.echo(json.dumps([line.to_dict() for line in found], indent=2))
        return
    for line in found:
        typer.echo(f"{line.name:<12} {line.state}")
