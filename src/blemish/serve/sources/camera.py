"""Cameras: a thread that decodes keeps the newest frame alone; another takes it when it is due.

A camera that ends, fails or freezes is opened again for ever, after pauses that grow up to a limit.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import MissingExtraError, UsageError
from blemish.serve.clock import now_ms
from blemish.serve.history import new_id
from blemish.serve.intake import Intake, Upload
from blemish.serve.line import SourceConfig
from blemish.serve.metrics import Metrics
from blemish.serve.sources.base import LineSource

__all__ = ["Camera", "SimulatedCamera", "check_camera"]

logger = logging.getLogger(__name__)

OPEN_S = 10.0  # how long FFmpeg may take to open a camera, or for its next packet
QUALITY = 95  # of the JPEG files that frames are kept as


def check_camera(config: SourceConfig) -> None:
    """MissingExtraError where a camera needs PyAV, and it is not installed."""
    if config.kind == "camera":
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("av", "camera", f"the camera {config.name!r}") from error


class Camera(LineSource):
    """A camera, a video file or a device, read by PyAV."""

    def __init__(self, config: SourceConfig, intake: Intake, metrics: Metrics) -> None:
        check_camera(config)
        super().__init__(config, intake, metrics)
        self.is_up = False
        self.reconnects = 0
        self._newest: tuple[int, Any] | None = None  # number and frame; of no use once it was taken
        self._frames = 0
        self._arrived = threading.Condition()

    def start(self) -> None:
        self._begin(self._read, "camera")
        super().start()

    def close(self) -> None:
        self._closing.set()
        with self._arrived:
            self._arrived.notify_all()
        super().close()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "up": self.is_up, "reconnects": self.reconnects, "frames": self._frames}

    def trigger(self) -> str | None:
        """Takes the newest frame, or the next one where it was taken already; UsageError where the camera delivers none."""
        frame = self._next_frame(self.config.freeze_s)
        if frame is None:
            raise UsageError(
                f"the camera {self.config.name!r} delivers no frame ({self.problem or 'none came in time'})"
            )
        return self._take_frame(frame)

    def _work(self) -> None:
        """Takes a frame every interval; nothing where something else triggers it."""
        if self.config.trigger not in (None, "interval"):
            return
        due = time.monotonic()
        while not self._closing.is_set():
            frame = self._next_frame(1.0)
            if frame is not None:
                self._take_frame(frame)
            due = max(due + self.config.interval_s, time.monotonic())
            self._closing.wait(due - time.monotonic())

    def _next_frame(self, limit_s: float) -> Any:
        """The newest frame that nobody has taken, once there is one."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._closing.is_set() or self._newest is not None, limit_s)
            found, self._newest = self._newest, None
        return None if found is None else found[1]

    def _take_frame(self, frame: Any) -> str | None:
        held = io.BytesIO()
        Image.fromarray(self._pixels(frame)).save(held, "JPEG", quality=QUALITY, subsampling=0)
        name = f"{self.config.name}-{now_ms()}-{new_id()[:4]}.jpg"
        taken = self._take(Upload(name, held.getvalue()), wait=False)
        if taken is None:  # the queue is full: a newer frame will do as well
            self._skip()
        return taken

    def _pixels(self, frame: Any) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        return pixels

    def _read(self) -> None:
        """Keeps the newest frame, and opens the camera again where it ends, fails or freezes."""
        pause_s = self.config.retry_s
        gauge = self._metrics.camera_up.labels(self.config.name)
        gauge.set(0)
        while not self._closing.is_set():
            before = self._frames
            try:
                with self._opened() as frames:
                    for frame in frames:
                        self._keep(frame)
                        gauge.set(1)
                        if self._closing.is_set():
                            return
                self.problem = "the stream has ended"
            except (OSError, ValueError, RuntimeError) as error:  # those of FFmpeg are among them
                self.problem = f"{type(error).__name__}: {error}"
            self.is_up = False
            gauge.set(0)
            if self._closing.is_set():
                return
            if self._frames > before:
                pause_s = self.config.retry_s
            self.reconnects += 1
            self._metrics.reconnects.labels(self.config.name).inc()
            logger.warning("the camera %r is opened again in %.1f s: %s", self.config.name, pause_s, self.problem)
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, self.config.retry_most_s)

    def _keep(self, frame: Any) -> None:
        with self._arrived:
            if self._newest is not None:
                self._skip()
            self._frames += 1
            self._newest = (self._frames, frame)
            self._arrived.notify_all()
        if not self.is_up:
            self.is_up, self.problem = True, None

    def _opened(self) -> AbstractContextManager[Iterator[Any]]:
        """The frames of the camera, opened anew."""
        return self._opened_by_ffmpeg()

    @contextmanager
    def _opened_by_ffmpeg(self) -> Iterator[Iterator[Any]]:
        import av

        config = self.config
        place = config.url or config.path or ""
        device = "v4l2" if place.startswith("/dev/video") else None
        options = {"rtsp_transport": "tcp", **config.options} if place.startswith("rtsp") else dict(config.options)
        # FFmpeg gives up by itself where no packet comes: a camera that freezes looks like one that ended
        limits = (OPEN_S, config.freeze_s)
        try:
            with closing(av.open(place, format=device, options=options, timeout=limits)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                is_file = config.url is None and device is None
                yield _in_time(container.decode(stream)) if is_file else container.decode(stream)
        except av.FFmpegError as error:  # not all of them are OSErrors
            raise OSError(str(error)) from error


def _in_time(frames: Iterator[Any]) -> Iterator[Any]:
    """The frames of a file as fast as they were filmed, as a camera's come."""
    began, first = time.monotonic(), None
    for frame in frames:
        if frame.time is not None:
            first = frame.time if first is None else first
            time.sleep(min(1.0, max(0.0, frame.time - first - (time.monotonic() - began))))
        yield frame


class SimulatedCamera(Camera):
    """Rendered parts, good and bad, always the same ones in the same order: for demonstrations and tests."""

    FIRST_SEED = 64_000_000  # never used in training
    PARTS = 24
    SIDE_PX = 320
    KINDS = (
        "normal",
        "normal",
        "scratch",
        "normal",
        "hole",
        "normal",
        "stain",
        "normal",
        "normal",
        "crack",
        "normal",
        "dent",
    )

    def __init__(self, config: SourceConfig, intake: Intake, metrics: Metrics) -> None:
        super().__init__(config, intake, metrics)
        self._parts: list[NDArray[np.uint8]] = []

    def _pixels(self, frame: Any) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = frame
        return pixels

    @contextmanager
    def _opened(self) -> Iterator[Iterator[Any]]:
        yield self._rendered()

    def _rendered(self) -> Iterator[NDArray[np.uint8]]:
        """A part every interval, rendered when its turn first comes."""
        from blemish.synthesis import render

        number = 0
        while True:
            place = number % self.PARTS
            if place == len(self._parts):
                kind = self.KINDS[place % len(self.KINDS)]
                self._parts.append(render(self.FIRST_SEED + place, size_px=self.SIDE_PX, defect_type=kind).image)
            yield self._parts[place]
            number += 1
            if self._closing.wait(self.config.interval_s):
                return
