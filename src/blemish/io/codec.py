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


def from_dict(kind: type[T], data: Mapping[str, Any], *, where: str | None = None) -> T:
    """An instance of the dataclass `kind` from plain data.

    Args:
        kind: A dataclass. A field without a default that may be None may be left out.
        data: Field names to values; tuples may come as lists, dataclasses as mappings, floats as whole numbers.
        where: What errors call it; by default the name of the dataclass.

    Raises:
        UnknownNameError: A key is no field; the nearest one is named.
        UsageError: A field is missing or has another type; it is named.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Camera:
        ...     name: str
        ...     range: tuple[float, float] | None
        >>> from_dict(Camera, {"name": "line 3", "range": [0, 4095]})
        Camera(name='line 3', range=(0.0, 4095.0))
    """
    where = kind.__name__ if where is None else where
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise UnknownNameError(f"key of {where}", key, fields)
    absent = [name for name, field in fields.items() if _is_required(field) and name not in data]
    missing = [name for name in absent if not _may_be_none(hints[name])]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}")
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    return kind(**values, **dict.fromkeys(absent))


def to_dict(config: Any, *, keep_none: bool = False) -> dict[str, Any]:
    """Plain data that `from_dict` reads back; tuples become lists.

    Args:
        config: An instance of a dataclass.
        keep_none: Whether fields that are None stay, as JSON's null. TOML has no null, so they are left out by default.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items() if keep_none or item is not None}
        return [plain(item) for item in value] if isinstance(value, tuple | list) else value

    return typing.cast("dict[str, Any]", plain(dataclasses.asdict(config)))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        converted = value
    elif origin in (typing.Union, types.UnionType):
        converted = _convert_union(arguments, value, where)
    elif origin is tuple:
        converted = _convert_tuple(arguments, value, where)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} must be a table, not {value!r}")
        converted = {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    elif origin is list:
        converted = list(_convert_tuple((*arguments, ...), value, where))
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


def _convert_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    """The value as the first of the types that it fits; the error names all of them where it fits none."""
    if value is None and type(None) in arguments:
        return None
    hints = [argument for argument in arguments if argument is not type(None)]
    for hint in hints:
        try:
            return _convert(hint, value, where)
        except UsageError:
            if len(hints) == 1:
                raise
    kinds = " or ".join(getattr(typing.get_origin(hint) or hint, "__name__", str(hint)) for hint in hints)
    raise UsageError(f"{where} must be of type {kinds}, not {value!r}")


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
