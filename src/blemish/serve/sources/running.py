"""The sources of a service, each with a thread of its own."""

from __future__ import annotations

from typing import Any

from blemish.errors import UnknownNameError
from blemish.serve.intake import Intake
from blemish.serve.line import LineConfig
from blemish.serve.metrics import Metrics
from blemish.serve.output.senders import Senders

__all__ = ["Sources"]


class Sources:
    """Starts and stops the configured sources."""

    def __init__(self, line: LineConfig, intake: Intake, metrics: Metrics, senders: Senders) -> None:
        del intake, metrics, senders
        self._running: dict[str, Any] = dict.fromkeys(source.name for source in line.sources)

    def states(self) -> list[dict[str, Any]]:
        """The sources and how they are."""
        return []

    def known(self) -> list[str]:
        """All sources that images ever came from."""
        return []

    def trigger(self, name: str) -> str:
        """Takes an image from a source now; its id."""
        raise UnknownNameError("source", name, self._running)

    def close(self) -> None:
        self._running.clear()
