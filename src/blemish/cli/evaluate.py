"""`blemish evaluate`: methods on data sets, as a table, files and a page; or the whole protocol of a paper."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from blemish.cli.options import command_words, configured, with_address
from blemish.config import Config
from blemish.errors import UsageError
from blemish.io.progress import TerminalReporter

if TYPE_CHECKING:
    from blemish.evaluation import Session, Table
    from blemish.evaluation.command import EvaluationReport

__all__ = ["ListingCommand", "evaluate"]

UNREADABLE = 3  # exit code
FILE_WIDTH = 250  # of tables, where there is no terminal
LISTS = ("--data", "--backbone", "--prompts", "--prompts-for")


class SizeName(StrEnum):
    """Where pixels are compared."""

    MODEL = "model"
    ORIGINAL = "original"


class CacheName(StrEnum):
    """Numbers of cached features."""

    NONE = "none"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class PartName(StrEnum):
    """Parts of a data set."""

    TEST = "test"
    TRAIN = "train"
    ALL = "all"


class ListingCommand(TyperCommand):
    """A command whose options in `LISTS` take every word up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_address(repeated(args)))


def repeated(arguments: list[str]) -> list[str]:
    """`--data a b` as `--data a --data b`, for the options in `LISTS`."""
    words: list[str] = []
    option = ""
    for word in arguments:
        if word.startswith("-"):
            option = word if word in LISTS else ""
            words.append(word)
        elif option and words[-1] != option:
            words += [option, word]
        else:
            words.append(word)
    return words


@configured(
    "model", "vocabulary", "input", "references", "masks", without=("method", "engine", "value_range", "max_megapixels")
)
def evaluate(
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD]...",
            help="Methods, before all options. Default: the backbone's, or the prompts'; with --suite the paper's, or all.",
        ),
    ] = None,
    *,
    data: Annotated[
        list[str] | None, typer.Option(metavar="NAME_OR_PATH...", help="Known data sets, folders or lists.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where data sets lie. Default: $BLEMISH_DATA, else here.", show_default=False)
    ] = None,
    split: Annotated[
        PartName | None, typer.Option(help="Part of the data. Default: test, or all where there is none.")
    ] = None,
    backbone: Annotated[list[str] | None, typer.Option(metavar="NAME...", help="Backbones. Default: embedded.")] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH...", help="Trained prompts; several of one method give mean ± spread."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="A paper's protocol: faprompt, dapo, or a TOML file.", show_default=False)
    ] = None,
    prompts_for: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET=PATH...",
            help="With --suite: prompts by what they were trained on; their card names the method. Others are trained.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results. What was stopped there goes on.")] = Path("evaluation"),
    size: Annotated[
        SizeName, typer.Option(help="Compare pixels at the tower's input size, or at each image's own.")
    ] = SizeName.ORIGINAL,
    typed: Annotated[bool, typer.Option("--typed", help="Measure which type it is, too, product by product.")] = False,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="The papers' AUPRO of 200 steps, too: a second pass.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Bootstrap resamples for intervals; 0 for none.")] = 200,
    limit: Annotated[float, typer.Option(help="False positive rate up to which AUPRO goes.")] = 0.3,
    cache: Annotated[
        CacheName, typer.Option(help="Keep image features on the disk, for several prompts or passes.")
    ] = CacheName.NONE,
    save_every: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two states on the disk.")] = 60.0,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown, too.", show_default=False)
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Count products on a cluster of Ray: auto, host:port or, without an address, one of this machine alone.",
            show_default=False,
        ),
    ] = None,
    config: Config,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no tables.")] = False,
) -> None:
    """Measure methods on data sets. The same command again goes on where it was stopped.

    Writes results.json, results.csv and report.html (one file, no network) to --out, and a record for each image below runs/.
    --defects data takes the data set's own types; --peers data compares each image with those of its product, --peers auto where
    they are a series; {product} in the path of --references stands for each image's product.
    Exit codes: 0 all done, 2 bad usage, 3 some images could not be read and are in no number.
    """
    if ray is not None and suite is not None:
        raise UsageError("a suite trains and measures one after the other: leave --ray away")
    report = _measured(
        ray,
        data or [],
        methods=methods or [],
        backbones=backbone or [],
        prompts=prompts or [],
        suite=suite,
        prompts_for=_prompts_by_set(prompts_for or []),
        data_root=data_root,
        split=None if split is None else split.value,
        out=out,
        size=size.value,
        typed=typed,
        legacy=legacy,
        rounds=rounds,
        limit=limit,
        cache=cache.value,
        save_every_s=save_every,
        markdown=markdown,
        config=config,
        reporter=None if quiet else TerminalReporter(),
        command=command_words(),
    )
    if not quiet:
        for table in report.tables:
            _print(table)
        for line in _provenance(report.session):
            typer.echo(line)
        typer.echo(
            f"written to {report.session.out}: {report.page.name}, results.json, results.csv; a record for each image: runs/"
        )
    for record in report.unreadable:
        typer.echo(f"unreadable: {record['error']}", err=True)
    if report.unreadable:
        raise typer.Exit(UNREADABLE)


def _measured(ray: str | None, data: list[str], **options: Any) -> EvaluationReport:
    """The evaluation, on a cluster where one was asked for."""
    if ray is None:
        from blemish.evaluation.command import evaluate as measure

        return measure(data, **options)
    from blemish.scale.evaluation import evaluate_on_cluster

    for name in ("suite", "prompts_for"):
        del options[name]
    return evaluate_on_cluster(data, ray=ray, **options)


def _prompts_by_set(texts: list[str]) -> dict[str, list[Path]]:
    """SET=PATH texts as the paths of each set."""
    paths: dict[str, list[Path]] = {}
    for text in texts:
        trained_on, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--prompts-for takes SET=PATH, as in mvtec=prompts/epoch-7, not {text!r}")
        paths.setdefault(trained_on, []).append(Path(path))
    return paths


def _print(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH)
    drawn = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for column, name in enumerate(table.header):
        drawn.add_column(name, justify="left" if column < table.words else "right", overflow="fold")
    for row in table.rows:
        cells = (text if column < table.words else text.replace(" (", "\n(") for column, text in enumerate(row))
        drawn.add_row(*(text.replace("[", r"\[") for text in cells))
    console.print(table.title, style="bold", markup=False)
    console.print(drawn)
    for note in table.notes:
        console.print(f"  {note}", markup=False)


def _provenance(session: Session) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in session.provenance.versions.items())
    lines = [
        "percent; mean over products; brackets: 95 % bootstrap over images",
        f"command: {session.provenance.command}",
        versions,
    ]
    for evaluation in session.evaluations:
        data, model = evaluation.data, evaluation.model
        where = "the tower's input" if evaluation.settings["size"] == "model" else "the images' own size"
        lines.append(
            f"{data['name']}: {data['variant'] or 'as it lies there'}; split {data['split']}; list {data['list_digest']}; "
            f"pixels at {where}; backbone {model['backbone_fingerprint']} at {model['input_px']} px, "
            f"method {model['fingerprint']}{', prompts ' + str(model['prompts']) if model['prompts'] else ''}"
        )
        lines += [f"note: {data['name']}: {note}" for note in evaluation.notes]
    return lines
