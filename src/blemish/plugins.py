"""Things that have a name, such as methods and export formats: our own, and those that other packages bring.

A package brings one by an entry point of a group, `blemish.methods` for example; CONTRIBUTING.md shows each kind.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from blemish.errors import PluginError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry"]

R = TypeVar("R")
logger = logging.getLogger(__name__)


class Registry(Mapping[str, Any]):
    """Names and what they stand for; each thing is imported when it is asked for.

    A plug-in cannot take one of our own names. One that fails to import fails only where it is asked for.

    Args:
        group: The group of entry points, "blemish.methods" for example.
        kind: What a name stands for, in messages: "method" for example.
        own: Our own: name -> "module:object", or "module" where the module itself is the thing.

    Example:
        >>> codecs = Registry("example.codecs", "codec", {"json": "json:loads"})
        >>> codecs["json"]("[1, 2]")
        [1, 2]
        >>> "yaml" in codecs
        False
    """

    def __init__(self, group: str, kind: str, own: Mapping[str, str]) -> None:
        self.group = group
        self.kind = kind
        self.own = dict(own)

    @cached_property
    def plugins(self) -> dict[str, EntryPoint]:
        """The entry points of other packages, by name; of two packages with one name, that of the first in the alphabet."""
        from importlib.metadata import entry_points  # 20 ms that `blemish --help` does not need

        points = sorted(entry_points(group=self.group), key=_package_of, reverse=True)
        return {point.name: point for point in points if point.name not in self.own}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.own, *self.plugins}))

    def __len__(self) -> int:
        return len(self.own) + len(self.plugins)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.plugins

    def __getitem__(self, name: str) -> Any:
        """The thing of this name.

        Raises:
            UnknownNameError: There is none; the nearest name is given.
            PluginError: The package that brings it fails to import.
        """
        if name in self.own:
            module, _, attribute = self.own[name].partition(":")
            loaded = importlib.import_module(module)
            return getattr(loaded, attribute) if attribute else loaded
        if name not in self.plugins:
            raise UnknownNameError(self.kind, name, self)
        return self.use_plugin(name, lambda thing: thing)

    def use_plugin(self, name: str, use: Callable[[Any], R]) -> R:
        """What `use` makes of a plug-in; PluginError where the import or `use` fails."""
        point = self.plugins[name]
        try:
            return use(point.load())
        except Exception as error:  # whatever another package's code raises
            raise PluginError(self.kind, name, _package_of(point), error) from error

    def use_plugins(self, use: Callable[[str, Any], R]) -> dict[str, R]:
        """What `use(name, thing)` makes of each plug-in; those that fail are left out, and named in the log."""
        results = {}
        for name in sorted(self.plugins):
            try:
                results[name] = self.use_plugin(name, lambda thing, name=name: use(name, thing))  # type: ignore[misc]
            except PluginError as error:
                logger.warning("%s; it is left out", error)
        return results

    def usable(self) -> dict[str, Any]:
        """All of them by name, but for plug-ins that fail to import, which are named in the log."""
        return {name: self[name] for name in self.own} | self.use_plugins(lambda _, thing: thing)


def _package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"
