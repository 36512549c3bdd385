"""Figures of a running service for Prometheus, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

LATENCY_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The service's counters; `render` is what Prometheus reads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def named(kind: Any, name: str, text: str, labels: tuple[str, ...] = (), **more: Any) -> Any:
            return kind(f"blemish_{name}", text, labels, registry=self._registry, **more)

        self.accepted: Counter = named(Counter, "accepted_images", "Images that were accepted", ("source",))
        self.refused: Counter = named(Counter, "refused_images", "Images that were refused", ("reason",))
        self.verdicts: Counter = named(Counter, "inspected_images", "Inspected images", ("source", "verdict"))
        self.latency: Histogram = named(
            Histogram, "latency_seconds", "From acceptance to the record", buckets=LATENCY_S
        )
        self.skipped: Counter = named(Counter, "skipped_frames", "Frames that a newer one replaced", ("source",))
        self.camera_up: Gauge = named(Gauge, "camera_up", "1 while a camera delivers frames", ("source",))
        self.reconnects: Counter = named(
            Counter, "camera_reconnects", "Times that a camera was opened again", ("source",)
        )

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is read."""
        Gauge(f"blemish_{name}", text, registry=self._registry).set_function(value)

    def render(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)
