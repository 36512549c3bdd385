"""The sources of a service, each with threads of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from blemish.errors import UnknownNameError, UsageError
from blemish.serve.database.tables import sources
from blemish.serve.history import reading
from blemish.serve.intake import Intake
from blemish.serve.line import LineConfig
from blemish.serve.metrics import Metrics
from blemish.serve.sources.base import LineSource
from blemish.serve.sources.camera import Camera, SimulatedCamera
from blemish.serve.sources.folder import HotFolder

__all__ = ["Sources"]

KINDS: dict[str, type[LineSource]] = {"folder": HotFolder, "camera": Camera, "simulated": SimulatedCamera}


class Sources:
    """Starts and stops the configured sources."""

    def __init__(self, line: LineConfig, intake: Intake, metrics: Metrics) -> None:
        self._db = intake.db
        self._running = {config.name: KINDS[config.kind](config, intake, metrics) for config in line.sources}
        for source in self._running.values():
            source.start()

    def states(self) -> list[dict[str, Any]]:
        """The sources and how they are."""
        return [source.state() for source in self._running.values()]

    def known(self) -> list[str]:
        """The names of all sources that images ever came from."""
        with reading(self._db) as connection:
            return list(connection.execute(select(sources.c.name).order_by(sources.c.name)).scalars())

    def trigger(self, name: str) -> str | None:
        """Takes an image from a camera now; its id, or None where the queue is full.

        Raises:
            UnknownNameError: There is no such source.
            UsageError: It is a folder, or delivers no frame.
        """
        if name not in self._running:
            raise UnknownNameError("source", name, self._running)
        source = self._running[name]
        if not isinstance(source, Camera):
            raise UsageError(f"the source {name!r} is a folder: its images are taken as they arrive")
        return source.trigger()

    def close(self) -> None:
        for source in self._running.values():
            source.close()
