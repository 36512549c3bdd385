"""`blemish engines`: what can run the model here, and how fast."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

import typer

from blemish.cli.options import configured
from blemish.config import Config
from blemish.errors import UsageError

__all__ = ["engines"]


@configured("model", without=("engine", "device", "precision", "compiled", "batch_size"))
def engines(
    *,
    input_px: Annotated[
        int | None,
        typer.Option("--input-px", metavar="PIXELS", help="Side of the square that images are resized to."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Instead: the largest input, in float32 or in 16 bits, that keeps within this time an image (2s, 300ms), for "
            "each engine, and what it costs on held-out rendered pictures.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config,
) -> None:
    """List the engines: which are installed, images a second measured on this machine, and how far their scores are from torch's.

    The figures are of the image side of the model, one batch of two rendered images, beside torch; a busy machine changes them.
    """
    if budget is not None:
        from blemish.engines.budget import choose_within, parse_time
        from blemish.engines.sessions import installed_libraries

        if input_px is not None or as_json:
            raise UsageError("--budget goes without --input-px and --json")
        seconds = parse_time(budget)
        for name in ("torch", *installed_libraries()):
            choice = choose_within(replace(config.model, engine=name), budget_s=seconds)
            typer.echo(f"{name:<12} {choice}")
            typer.echo(f"{'':<12} --engine {name} --input-px {choice.input_px} --precision {choice.precision}")
        return
    from blemish.engines.measuring import measure_engines

    found = measure_engines(config.model, input_px=input_px)
    if as_json:
        typer.echo(json.dumps([line.to_dict() for line in found], indent=2))
        return
    for line in found:
        typer.echo(f"{line.name:<12} {line.state}")
