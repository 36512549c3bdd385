"""Options of the commands: those of the configuration, made from its fields, and a few that several commands share."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.config import Config, Setting, settings

__all__ = ["Quiet", "command_words", "configured", "option_of", "with_address"]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration (TOML); options come before what it says."),
]


def command_words() -> list[str]:
    """The command as results name it: `blemish` without its folder, and what follows."""
    return ["blemish", *sys.argv[1:]]


def with_address(arguments: list[str]) -> list[str]:
    """The words of a command with an address behind a `--ray` that has none: a cluster of this machine alone.

    Example:
        >>> with_address(["parts", "--ray", "--out", "results"])
        ['parts', '--ray', 'local', '--out', 'results']
    """
    words: list[str] = []
    for word, following in itertools.pairwise([*arguments, "-"]):
        words.append(word)
        if word == "--ray" and following.startswith("-"):
            words.append("local")
    return words


def option_of(name: str) -> Any:
    """The annotation of the option of a setting, for a parameter whose default is None: not given."""
    setting = settings()[name]
    kinds = {int: int | None, float: float | None, bool: bool | None}
    hints = typing.get_args(setting.hint) or (setting.hint,)
    kind: Any = list[str] | None if setting.hint == Mapping[str, Any] else str | None
    if setting.parse is None:
        kind = next((kinds[hint] for hint in hints if hint in kinds and str not in hints), kind)
    declared = f"{setting.option}/--no-{setting.option.removeprefix('--')}" if setting.hint is bool else setting.option
    value = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
    default = "" if value in (None, False, {}) or "Default" in setting.help else f" Default: {value}."
    return Annotated[kind, typer.Option(declared, metavar=setting.metavar, help=setting.help + default)]


def configured(*tables: str, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of these tables of the configuration, and `--config`.

    The command has a parameter `config: Config`; the options stand in its place. Options given on the command line come
    before the file; where the two differ, a line on stderr says which counts.

    Args:
        tables: Names of tables; an option that the command has a parameter of its own for is left to the command.
        without: Names of settings that are no options of this command.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(command, include_extras=True)
        own = inspect.signature(command).parameters
        names = [
            setting.name
            for setting in settings().values()
            if setting.table in tables and setting.name not in own and setting.name not in without
        ]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in names}
            config = _merged(given.pop("config"), values, quiet=bool(given.get("quiet")))
            command(**given, config=config)

        parameters = []
        for parameter in own.values():
            if parameter.name == "config":
                kinds = {"config": ConfigFile} | {name: option_of(name) for name in names}
                parameters += [
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
                    for name, kind in kinds.items()
                ]
            else:
                parameters.append(
                    parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
                )
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _merged(path: Path | None, values: Mapping[str, Any], *, quiet: bool) -> Config:
    """The configuration of a file with what the command line says in its place."""
    from_file = Config() if path is None else Config.from_toml(path)
    given = {name: _parsed(settings()[name], value) for name, value in values.items() if value not in (None, [])}
    merged = from_file.with_settings(**given)
    if path is not None and not quiet:
        before = {setting.name: value for setting, value in from_file.settings()}
        for setting, value in merged.settings():
            old = before[setting.name]
            if old not in (value, setting.default):
                typer.echo(f"note: {setting.option} {_shown(value)} instead of {_shown(old)} in {path}", err=True)
    return merged


def _parsed(setting: Setting, value: Any) -> Any:
    return value if setting.parse is None else setting.parse(value)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
