"""`blemish models`: which models there are, and getting them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from blemish.models import Imported

__all__ = ["models"]

models = typer.Typer(
    help="List, pull and import backbones and prompts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class As(StrEnum):
    """What a file is to be taken for."""

    BACKBONE = "backbone"
    PROMPTS = "prompts"


class From(StrEnum):
    """Where a backbone is fetched from."""

    HUB = "hub"
    ARCHIVE = "archive"


JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")]


@models.command("list")
def list_(*, as_json: JSON = False) -> None:
    """List the models: in the package, in the store, and those that can be pulled."""
    from blemish import models as store

    found = store.list_models()
    if as_json:
        rows = [
            {"name": model.name, "kind": model.kind, "state": model.state, "bytes": model.bytes}
            | {"place": None if model.place is None else str(model.place), "licence": model.licence}
            for model in found
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    names = max(len(model.name) for model in found)
    for model in found:
        size = "" if model.place is None else megabytes(model.bytes)
        typer.echo(f"{model.name:{names}}  {model.kind:8}  {model.state:14}  {size:>9}  {model.origin}".rstrip())
    typer.echo(f"models live in {store.home()}")


@models.command("pull")
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `blemish models list` shows.")],
    *,
    source: Annotated[
        From | None,
        typer.Option(
            help="The hub, or the archive that the authors publish. Default: the hub, else the archive.",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Another server of that source: its address.", show_default=False)
    ] = None,
    overwrite: OVERWRITE = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Fetch a known backbone and check it; afterwards no network is needed.

    A transfer that breaks off goes on where it was when the command is given again.
    """
    from blemish import models as store

    _report(
        store.pull(
            name,
            source=None if source is None else source.value,
            endpoint=endpoint,
            overwrite=overwrite,
            progress=not quiet,
        )
    )


@models.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A model file, or a folder with one.")],
    *,
    name: Annotated[
        str | None, typer.Option(help="The name to find it under. Default: the file's.", show_default=False)
    ] = None,
    kind: Annotated[
        As | None, typer.Option("--as", help="What it is, where the file leaves it open.", show_default=False)
    ] = None,
    overwrite: OVERWRITE = False,
) -> None:
    """Take a model file into the store: OpenAI's archives, open_clip, Hugging Face or our own; nothing in it is run."""
    from blemish import models as store

    _report(store.import_model(path, name=name, kind=None if kind is None else kind.value, overwrite=overwrite))


@models.command("info")
def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or a path.")],
    *,
    as_json: JSON = False,
) -> None:
    """Say what is known about a model: place, size, shape, source, licence."""
    from blemish import models as store

    found = store.info(name)
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))


def megabytes(size: int) -> str:
    """A size for people; 1 MB = 1 000 000 bytes."""
    return f"{size / 1e6:.1f} MB"


def _report(imported: Imported) -> None:
    for note in imported.notes:
        typer.echo(note)
    use = f"use it with --backbone {imported.name}; " if imported.kind == "backbone" else ""
    typer.echo(f"{imported.kind} {imported.name}: {use}it is in {imported.place}")


def _lines(data: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in data.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")] if value else []
        elif value not in (None, "", []):
            listed = ", ".join(str(item) for item in value) if isinstance(value, list) else value
            lines.append(f"{indent}{key}: {megabytes(value) if key == 'bytes' else listed}")
    return lines
