"""A client of the service: images in, records out, sent again where the service is busy or gone for a moment."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from blemish.errors import BlemishError, ImageError, MissingExtraError, UsageError
from blemish.io.atomic import reason

__all__ = ["Client", "ServiceError"]

AGAIN = (429, 502, 503, 507)  # statuses after which the same request may succeed
FIRST_PAUSE_S, MOST_PAUSE_S = 0.2, 10.0
POLL_S = 0.5
PAGE = 200


class ServiceError(BlemishError):
    """The service answered with an error; `code` is what programs read (docs/serve-api.md)."""

    def __init__(self, status: int, code: str, message: str, images: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.images = tuple(images)


class Client:
    """Speaks to a running `blemish serve`.

    Args:
        url: its address.
        token: a token with the scopes that are used; None where the service needs none.
        timeout_s: how long a request may take.
        retry_s: how long a request is sent again where the service is busy or cannot be reached. Each has a key, so that an
            image whose answer was lost is not inspected twice.

    Raises:
        MissingExtraError: httpx is not installed.

    Example:
        >>> with Client("http://127.0.0.1:8765", token="blemish_…") as client:  # doctest: +SKIP
        ...     print(client.inspect("part.png")["verdict"])
        ng
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8765",
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        retry_s: float = 30.0,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtraError("httpx", "serve", "the client") from error
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._unreachable = (httpx.TransportError,)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)
        self.retry_s = retry_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def inspect(self, image: Any, *, name: str | None = None, **asked: Any) -> dict[str, Any]:
        """The record of one image, as in results.jsonl, with its `id`.

        Args:
            image: A path, the bytes of a file, a NumPy array or a Pillow image.
            name: What the record calls it; by default the name of the file.
            **asked: profile, source, defects, vocabulary, threshold, pixel_threshold, timeout_s (docs/serve-api.md).

        Raises:
            ImageError: The image cannot be inspected.
            ServiceError: The service refuses, or could not.
        """
        record = self.inspect_many([image], names=None if name is None else [name], **asked)[0]
        if isinstance(record, ImageError):
            raise record
        return record

    def inspect_many(
        self, images: Sequence[Any], *, names: Sequence[str] | None = None, **asked: Any
    ) -> list[dict[str, Any] | ImageError]:
        """The records of several images in one request; an ImageError in the place of each that cannot be inspected."""
        named = [_named(image, number) for number, image in enumerate(images)]
        called = [name for name, _ in named] if names is None else list(names)
        files = [("images", (name, data)) for name, (_, data) in zip(called, named, strict=True)]
        form = {key: str(value) for key, value in asked.items() if value is not None}
        headers = {"Idempotency-Key": uuid4().hex}
        try:
            answer = self._ask("POST", "/v1/inspections", files=files, data=form, headers=headers)
        except ServiceError as error:
            if len(error.images) != len(called) or error.status != 422:
                raise
            return [ImageError(each["name"], each["message"]) for each in error.images]
        return [
            record if record["verdict"] is not None else ImageError(record["source"], record["error"])
            for record in answer.json()["inspections"]
        ]

    def inspections(self, *, limit: int | None = None, **filters: Any) -> Iterator[dict[str, Any]]:
        """Inspections of the history, the newest first, page by page.

        Args:
            limit: How many at most.
            **filters: verdict, type, source, job, review, name, since, until, lowest_score, highest_score, records.
        """
        query = {
            {"since": "from", "until": "to"}.get(key, key): value for key, value in filters.items() if value is not None
        }
        cursor, left = None, limit
        while left is None or left > 0:
            page = self._ask(
                "GET",
                "/v1/inspections",
                params={**query, "limit": min(PAGE, left or PAGE), **({} if cursor is None else {"cursor": cursor})},
            ).json()
            yield from page["inspections"]
            cursor = page["next"]
            left = None if left is None else left - len(page["inspections"])
            if cursor is None:
                return

    def get(self, inspection_id: str) -> dict[str, Any]:
        """One inspection with its record and its reviews."""
        found: dict[str, Any] = self._ask("GET", f"/v1/inspections/{inspection_id}").json()
        return found

    def picture(self, inspection_id: str, kind: str = "overlay") -> bytes:
        """A picture of an inspection: "overlay", "mask", "map", "image", or "original" for the file as it was given."""
        return bytes(self._ask("GET", f"/v1/inspections/{inspection_id}/{kind}").content)

    def review(
        self, inspection_id: str, label: str, *, type: str | None = None, note: str = "", reviewer: str | None = None
    ) -> dict[str, Any]:
        """Says what an inspection is worth: "accept", "reject", "other_type" (with the type) or "false_alarm"."""
        said = {"label": label, "type": type, "note": note, "reviewer": reviewer}
        made: dict[str, Any] = self._ask("PUT", f"/v1/inspections/{inspection_id}/review", json=said).json()
        return made

    def add_job(self, folder: str, *, names: Sequence[str] | None = None, **asked: Any) -> str:
        """Has the images of a folder that the service knows inspected in the background; the id of the job."""
        wanted = {"folder": folder, "names": None if names is None else list(names), **asked}
        return str(self._ask("POST", "/v1/jobs", json=wanted).json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """What became of a job so far."""
        found: dict[str, Any] = self._ask("GET", f"/v1/jobs/{job_id}").json()
        return found

    def wait(self, job_id: str, *, limit_s: float = 600.0) -> dict[str, Any]:
        """The job, once it has ended; ServiceError where it takes longer."""
        until = time.monotonic() + limit_s
        while (job := self.job(job_id))["state"] in ("waiting", "running"):
            if time.monotonic() > until:
                raise ServiceError(504, "timeout", f"the job {job_id} has not ended within {limit_s:g} s")
            time.sleep(POLL_S)
        return job

    def is_ready(self) -> bool:
        """Whether the service can inspect images."""
        try:
            return bool(self._http.get("/health/ready").status_code == 200)
        except self._unreachable:
            return False

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        until, pause_s = time.monotonic() + self.retry_s, FIRST_PAUSE_S
        while True:
            answer = None
            try:
                answer = self._http.request(method, path, **request)
            except self._unreachable as error:
                failure = ServiceError(0, "unreachable", f"{self._http.base_url}: cannot be reached ({error})")
            else:
                if answer.is_success:
                    return answer
                failure = _failure(answer)
                if answer.status_code not in AGAIN:
                    raise failure
            asked_s = 0.0 if answer is None else _seconds(answer.headers.get("Retry-After"))
            wait_s = max(asked_s, pause_s * random.uniform(0.5, 1.5))  # not all clients at once
            if time.monotonic() + wait_s > until:
                raise failure
            time.sleep(wait_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)


def _failure(answer: Any) -> ServiceError:
    try:
        error = answer.json()["error"]
        return ServiceError(answer.status_code, error["code"], error["message"], error.get("images", ()))
    except (ValueError, KeyError, TypeError):
        return ServiceError(answer.status_code, "error", f"the service answered {answer.status_code}")


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() else 0.0


def _named(image: Any, number: int) -> tuple[str, bytes]:
    """The name of an image, and the bytes of a file with it."""
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        try:
            return path.name, path.read_bytes()
        except OSError as error:
            raise ImageError(path, f"cannot be read ({reason(error)})") from error
    if isinstance(image, bytes | bytearray | memoryview):
        return f"image-{number}", bytes(image)
    import numpy as np
    from PIL import Image

    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise UsageError(f"an image is a path, bytes, an array or a Pillow image, not {type(image).__name__}")
    held = io.BytesIO()
    image.save(held, "PNG")
    return f"image-{number}.png", held.getvalue()
