"""`blemish synthesize`: a data set with typed, masked defects, made from good images or from nothing."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.options import Quiet, configured
from blemish.config import Config, InputConfig
from blemish.errors import UsageError
from blemish.io.progress import TerminalReporter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from blemish.images import FoundImage
    from blemish.synthesis.making import Made
    from blemish.synthesis.recipes import Task
    from blemish.synthesis.survey import Survey

__all__ = ["synthesize"]

UNUSABLE = 3  # exit code


@configured("input", without=("input_px", "tiles"))
def synthesize(
    good: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GOOD]...", help="Good images: files, folders or patterns.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="New or empty folder. What the same command began there goes on.")],
    procedural: Annotated[
        int | None,
        typer.Option(metavar="N", help="N pictures from nothing, instead of good images.", show_default=False),
    ] = None,
    defects: Annotated[
        str | None, typer.Option(help='Types to draw: "scratch, hole". Default: all.', show_default=False)
    ] = None,
    count: Annotated[
        int | None, typer.Option(metavar="N", help="Defective pictures in all. Default: ten of each type.")
    ] = None,
    per_image: Annotated[
        int | None, typer.Option(metavar="N", help="Defective pictures of each good test image, instead of --count.")
    ] = None,
    contrast: Annotated[
        str,
        typer.Option(metavar="LOW:HIGH", help="Mean change inside the mask, 0 to 1; 0.02 is barely visible."),
    ] = "0.02:0.4",
    extent: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="Size within what the type allows: 0 smallest, 1 largest.")
    ] = "0:1",
    benign: Annotated[
        bool,
        typer.Option("--benign", help="Vary light, noise, blur and compression, of good and defective ones alike."),
    ] = False,
    train_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the good images that go to train/good; defects go on the others. Default: 0.5.",
            show_default=False,
        ),
    ] = None,
    product: Annotated[
        str | None, typer.Option(help="Name of the product. Default: the folder's.", show_default=False)
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Side of procedural pictures. Default: 256.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes, for any number of workers.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes; each holds one image. Default: one a core.", show_default=False)
    ] = None,
    config: Config,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another synthetic set in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make a data set in the layout of MVTec AD, with exact masks, from your good images or from nothing.

    Exit codes: 0 all done, 2 bad usage, 3 some good images could not be used.
    """
    if bool(good) == (procedural is not None):
        raise UsageError("name good images, or ask for --procedural N; one of the two")
    if procedural is not None and (count is not None or per_image is not None):
        raise UsageError("--procedural says how many pictures there are: leave --count and --per-image away")
    if procedural is not None and (benign or train_share is not None):
        raise UsageError(
            "procedural pictures vary by themselves and a fifth goes to train/good: leave --benign and --train-share away"
        )
    if procedural is None and size is not None:
        raise UsageError("--size is for --procedural: your good images keep their own")
    if count is not None and per_image is not None:
        raise UsageError("--count is for all images together, --per-image for each: give one of them")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers takes a number from 1 on, not {workers}")
    from blemish.images import find_images
    from blemish.synthesis import making, recipes

    recipe = recipes.SynthesisRecipe(
        types=recipes.parse_types(defects),
        contrast=_range(contrast, "--contrast"),
        extent=_range(extent, "--extent"),
        seed=seed,
        benign=benign,
        train_share=0.5 if train_share is None else train_share,
        size_px=256 if size is None else size,
    )
    if product is not None:
        recipes.check_product(product)
    making.check_folder(out)
    cores = workers or os.cpu_count() or 1
    if procedural is not None:
        tasks = recipes.plan_procedural(procedural, recipe)
        name, found, sources = product or "procedural", None, []
    else:
        images = find_images(good or [], skip=out)
        roots = images[0].root.absolute()
        name = product or recipes.product_name(roots.name, [folder.name for folder in roots.parents])
        found = _survey(images, cores, config.input, quiet=quiet)
        tasks = recipes.plan(found.good, recipe, count=count, per_image=per_image)
        sources = [[item.name, item.digest, item.value_range] for item in found.good]
    made = making.make(
        tasks,
        out,
        product=name,
        recipe=recipe,
        identity={"product": name, "recipe": asdict(recipe), "pictures": _count(tasks), "sources": sources},
        workers=min(cores, len(tasks)),
        overwrite=overwrite,
        max_megapixels=config.input.max_megapixels,
        progress=partial(_progress, quiet=quiet),
    )
    if not quiet:
        _print_summary(made)
    if found is not None and found.unusable:
        raise typer.Exit(UNUSABLE)


def _survey(
    images: Sequence[FoundImage],
    threads: int,
    reading: InputConfig,
    *,
    quiet: bool,
) -> Survey:
    """Looks at every good image, and says what is wrong with which."""
    from blemish.synthesis.survey import survey

    with TerminalReporter(quiet=quiet).progress("good images", len(images)) as advance:
        found = survey(
            images,
            value_range=reading.value_range,
            max_megapixels=reading.max_megapixels,
            threads=threads,
            progress=advance,
        )
    for error in found.unusable:
        typer.echo(f"left out: {error}", err=True)
    for remark in found.remarks:
        typer.echo(f"note: {remark}", err=True)
    return found


def _progress(total: int, done: int, *, quiet: bool) -> AbstractContextManager[Callable[[], None]]:
    return TerminalReporter(quiet=quiet).progress("pictures", total, done=done)


def _range(text: str, option: str) -> tuple[float, float]:
    """LOW:HIGH, or one number for both."""
    low, colon, high = text.partition(":")
    try:
        return float(low), float(high if colon else low)
    except ValueError as error:
        raise UsageError(f"{option} takes LOW:HIGH as in 0.02:0.4, or one number, not {text!r}") from error


def _count(tasks: Sequence[Task]) -> int:
    return sum(len(task.items) for task in tasks)


def _print_summary(made: Made) -> None:
    width = max(map(len, made.counts), default=0)
    for name, number in sorted(made.counts.items(), key=lambda pair: (pair[0] != "good", pair[0])):
        typer.echo(f"{name:{width}}  {number:6,}")
    if made.resumed:
        typer.echo(f"{made.resumed:,} of them were there already")
    if made.undrawn:
        typer.echo(
            f"note: {made.undrawn:,} defects could not be drawn as asked on their image (contrast, size); "
            "manifest.jsonl names them",
            err=True,
        )
    typer.echo(f"{made.out}: check it with blemish data check, train on it with blemish train METHOD --data {made.out}")
