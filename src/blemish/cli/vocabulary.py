"""`blemish vocabulary`: the built-in defect types, and whether a vocabulary file says what it is meant to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from blemish.language import DefectType

__all__ = ["vocabulary"]

UNFIT = 1  # exit code where the file has an error
MOST_SHOWN = 25  # types in full: the built-in ones are

vocabulary = typer.Typer(
    help="Show the built-in defect types, or check a vocabulary file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@vocabulary.command("show")
def show() -> None:
    """Print the built-in vocabulary as a file: save it and change it for your own."""
    from blemish.language import general_text

    typer.echo(general_text(), nl=False)


@vocabulary.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A vocabulary file (TOML).")],
    *,
    product: Annotated[
        str | None, typer.Option(help="Show what this product's types become. Default: all types.", show_default=False)
    ] = None,
) -> None:
    """Explain what is wrong or doubtful in a vocabulary file, and show what a model reads for each type.

    Exit codes: 0 fit for use (there may be warnings), 1 errors in the file, 2 no such file or product.
    """
    from blemish.language import read_vocabulary_file

    found = read_vocabulary_file(file)
    for problem in found.problems:
        typer.echo(f"{problem.severity}: {problem.text}")
    errors = sum(problem.severity == "error" for problem in found.problems)
    if errors:
        typer.echo(f"{file}: {errors} {'error' if errors == 1 else 'errors'}; it cannot be used")
        raise typer.Exit(UNFIT)
    chosen = found.vocabulary(product).types
    for line in _in_prompts(chosen[:MOST_SHOWN]):
        typer.echo(line)
    if len(chosen) > MOST_SHOWN:
        typer.echo(f"… and {len(chosen) - MOST_SHOWN} more")
    for name, types in found.products.items():
        typer.echo(f"product {name}: {', '.join(defect.name for defect in types)}")
    typer.echo(f"{file}: fit for use, {len(chosen)} {'type' if len(chosen) == 1 else 'types'}")


def _in_prompts(types: tuple[DefectType, ...]) -> list[str]:
    """Lines that show how each method puts each type into words, and how many tokens a word takes."""
    from blemish.language.checks import tokens_of
    from blemish.methods import METHODS

    methods = METHODS.usable()
    lines = []
    for defect in types:
        count = tokens_of(defect.name)
        lines.append(f"{defect.name} ({count} {'token' if count == 1 else 'tokens'})")
        if defect.synonyms:
            lines.append(f"  synonyms: {', '.join(f'{word} ({tokens_of(word)})' for word in defect.synonyms)}")
        if defect.sentence:
            lines.append(f"  sentence: {defect.sentence} ({tokens_of(defect.sentence)})")
        names: dict[str, list[str]] = {}
        for name, method in methods.items():
            names.setdefault(method.example_prompt(defect), []).append(name)
        lines += [f"  {', '.join(alike)}: {prompt}" for prompt, alike in names.items()]
    return lines
