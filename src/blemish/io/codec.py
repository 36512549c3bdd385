"""Dataclasses as plain data (JSON, TOML) and back: the one codec in the package."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from blemish.errors import UnknownNameError, UsageError

__all__ = ["from_dict", "to_dict"]

T = TypeVar("T")


def from_dict(kind: type[T], data: Mapping[str, Any]) -> T:
    """An instance of the dataclass `kind` from plain data; an unknown key names its nearest, a wrong type its place."""
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise UnknownNameError(f"key of {kind.__name__}", key, fields)
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and name not in data and not _may_be_none(hints[name])
    ]
    if missing:
        raise UsageError(f"{kind.__name__} lacks {', '.join(missing)}")
    values = {key: _convert(hints[key], value, f"{kind.__name__}.{key}") for key, value in data.items()}
    values.update(
        {name: None for name, field in fields.items() if field.default is dataclasses.MISSING and name not in data}
    )
    return kind(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data that `from_dict` reads back; tuples become lists, and what is None is left out (TOML has no null)."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if item is not None}
        return [plain(item) for item in value] if isinstance(value, tuple | list) else value

    return typing.cast("dict[str, Any]", plain(dataclasses.asdict(config)))


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # T | None
        inner = next(argument for argument in arguments if argument is not type(None))
        converted = None if value is None else _convert(inner, value, where)
    elif origin is tuple:
        converted = _convert_tuple(arguments, value, where)
    elif origin is Literal:
        if value not in arguments:
            raise UnknownNameError(where, str(value), arguments)
        converted = value
    elif isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        converted = value
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        converted = from_dict(typing.cast("type[Any]", hint), value)
    elif hint is float and type(value) is int:
        converted = float(value)
    else:
        raise UsageError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return converted


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where} must be a list, not {value!r}")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise UsageError(f"{where} must have {len(arguments)} entries, not {value!r}")
    return tuple(_convert(hint, item, where) for hint, item in zip(arguments, value, strict=True))


def _may_be_none(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)
