"""`blemish cache`: what Blemish keeps on the disk, and clearing it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.models import megabytes
from blemish.errors import UsageError

if TYPE_CHECKING:
    from blemish.models import Leftover
    from blemish.models.feature_cache import StoredFeatures

__all__ = ["cache"]

cache = typer.Typer(
    help="Show what is kept on the disk, or clear it.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@cache.callback()
def show(context: typer.Context) -> None:
    """Show what is kept on the disk: models, prompts, features of images and unfinished downloads."""
    if context.invoked_subcommand is not None:
        return
    from blemish import models as store

    typer.echo(f"{store.home()} (set {store.HOME_VARIABLE} to move it)")
    rows = [(f"{model.kind} {model.name}", model.bytes, model.place) for model in store.stored_models()]
    rows += [(kept.what, kept.bytes, kept.place) for kept in _found()]
    for what, size, place in rows:
        typer.echo(f"{megabytes(size):>10}  {what}  {place}")
    typer.echo(f"{megabytes(sum(size for _, size, _ in rows)):>10}  in all")


@cache.command("clear")
def clear(
    *,
    models: Annotated[bool, typer.Option("--models", help="Also the models and prompts in the store.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete what can be made again: features of images, unfinished downloads, broken imports; with --models the models too."""
    from blemish import models as store

    found = _found()
    files = [file for kept in found for file in kept.files]
    if models:
        files += [file for model in store.stored_models() for file in model.files]
    if not files:
        typer.echo("nothing to clear" if models else "nothing to clear but models (see --models)")
        return
    size = megabytes(sum(file.stat().st_size for file in files))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{len(files)} files ({size}) in {store.home()} would be deleted; say --yes")
        for kept in found:  # features may have taken hours
            typer.echo(f"{megabytes(kept.bytes):>10}  {kept.what}")
        typer.confirm(f"Delete {len(files)} files ({size}) in {store.home()}?", abort=True)
    store.remove(tuple(files))
    typer.echo(f"deleted {len(files)} files ({size})")


def _found() -> list[StoredFeatures | Leftover]:
    """What can be made again."""
    from blemish import models as store
    from blemish.models.feature_cache import stored_features

    return [*stored_features(), *store.leftovers()]
