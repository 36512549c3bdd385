"""`blemish train`: prompts of a method, learned on a data set with a frozen backbone."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.options import Quiet, command_words, configured
from blemish.config import Config
from blemish.errors import UsageError
from blemish.io.progress import TerminalReporter

if TYPE_CHECKING:
    from blemish.training import Trained

__all__ = ["train"]


class PrecisionName(StrEnum):
    """Numbers of a training step."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class CacheName(StrEnum):
    """Numbers of cached features."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    NONE = "none"


class MosaicLabelName(StrEnum):
    """Whose label a mosaic has."""

    SHOWN = "shown"
    REPLACED = "replaced"


class SplitName(StrEnum):
    """Parts of a data set."""

    TRAIN = "train"
    TEST = "test"
    ALL = "all"


@configured("model", without=("prompts", "force", "engine", "batch_size"))
def train(
    method: Annotated[str, typer.Argument(help="Method, as faprompt.", show_default=False)],
    *,
    data: Annotated[
        str,
        typer.Option(
            help='Images with masks: a folder, a known data set, or "synthetic:COUNT@SEED".', show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for prompts, cards, log and state. A stopped training there goes on.")
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,VALUE",
            help="Train once with each value, in parallel on a cluster of Ray, each into a folder of --out: epochs, batch_size, "
            "rate, seed, mosaics, or an option of the method. Several: every combination.",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="With --vary: the cluster. Default: one of this machine alone.",
            show_default=False,
        ),
    ] = None,
    config: Config,
    split: Annotated[
        SplitName | None,
        typer.Option(help="Part of --data. Default: test where there is one, as its images show defects; else train."),
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Other images, measured after every epoch; their thresholds go into the cards.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Epochs; more than before continue a finished training. Default: the method's authors', 5 to 15.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images of a step. Default: the authors', mostly 8.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate. Default: the authors', mostly 0.001.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Decides first prompts and the order of the images. Default: the authors', 111 or 42.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        PrecisionName, typer.Option(help="fp32, or mixed: bf16, fp16 (GPU only).")
    ] = PrecisionName.FP32,
    cache_dtype: Annotated[
        CacheName, typer.Option(help="What image features are kept in on the disk; none computes them in every step.")
    ] = CacheName.FLOAT16,
    mosaics: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the images that become mosaics of four of their product.")
    ] = 0.0,
    mosaic_label: Annotated[
        MosaicLabelName,
        typer.Option(help="A mosaic is anomalous as what it shows, or as the image it replaced (AdaCLIP's release)."),
    ] = MosaicLabelName.SHOWN,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read, instead of refusing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in --out.")] = False,
    save_every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two states on the disk.")] = 60.0,
    log_every: Annotated[int, typer.Option(metavar="STEPS", help="Steps between two lines of the log.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Train the prompts of a method on a frozen backbone. The same command again goes on where it was stopped."""
    if log_every < 1:
        raise UsageError(f"--log-every takes a number of steps from 1 on, not {log_every}")
    from blemish import training
    from blemish.training.run import check_trainable

    check_trainable(method, config.model.options)
    if ray is not None and not vary:
        raise UsageError("--ray spreads several trainings: give --vary, as --vary seed=1,2,3")
    asked = {"epochs": epochs, "batch_size": batch_size, "rate": rate, "seed": seed}
    recipe = training.recipe_of(
        method,
        **{name: value for name, value in asked.items() if value is not None},
        precision=precision.value,
        cache_dtype=cache_dtype.value,
        mosaics=mosaics,
        mosaic_label=mosaic_label.value,
    )
    options: dict[str, Any] = {
        "split": None if split is None else split.value,
        "out": out,
        "backbone": config.model.backbone,
        "options": config.model.options,
        "recipe": recipe,
        "held_out": held_out,
        "device": config.model.device,
        "overwrite": overwrite,
        "skip_unreadable": skip_unreadable,
        "save_every_s": save_every,
        "log_every": log_every,
        "reporter": None if quiet else TerminalReporter(),
    }
    if vary:
        from blemish.scale.sweeps import parse_values, train_variants

        for variant in train_variants(
            method, data, vary=parse_values(vary), ray=ray, command=command_words(), **options
        ):
            if not quiet:
                typer.echo(f"{variant.out}: prompts of {len(variant.prompts)} epochs")
        return
    done = training.train(method, data, command=shlex.join(command_words()), **options)
    if not quiet:
        _print_summary(done)


def _print_summary(done: Trained) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    metrics = list(dict.fromkeys(name for record in done.history for name in record["held_out"] or {}))
    for title in ("epoch", "loss", *(name.replace("_", " ") for name in metrics), "seconds"):
        table.add_column(title, justify="right")
    for record in done.history:
        measured = [f"{(record['held_out'] or {})[name]:.4f}" for name in metrics]
        table.add_row(str(record["epoch"]), f"{record['means']['total']:.4f}", *measured, f"{record['seconds']:.0f}")
    console.print(table)
    console.print(f"prompts of every epoch: {done.out}, the last ones: {done.prompts[-1]}", markup=False)
