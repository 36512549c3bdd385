"""What every request passes first: names of this service, sites that may send, the size of a body, headers of every answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blemish.serve.http.errors import Refused, error_response

__all__ = ["Guard"]

logger = logging.getLogger("blemish.serve.requests")

SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """The outermost layer of the application.

    Args:
        app: what lies inside.
        hosts: names that requests may call the service by; empty: any (a name that another site points here is only
            dangerous where no token is needed).
        most_bytes: of a request's body.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], most_bytes: int) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started, status = uuid4().hex[:12], time.monotonic(), 0
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["X-Request-ID"] = request_id
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refusal(Headers(scope=scope), str(scope["method"]))
        if refused is not None:
            await error_response(refused)(scope, receive, send_with_headers)
        else:
            await self._app(scope, self._limited(receive), send_with_headers)
        logger.info(
            "request",
            extra={
                "facts": {
                    "request": request_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "seconds": round(time.monotonic() - started, 4),
                    "client": (scope.get("client") or ("",))[0],
                }
            },
        )

    def _refusal(self, headers: Headers, method: str) -> Refused | None:
        host = headers.get("host", "")
        if self._hosts and _hostname(host) not in self._hosts:
            return Refused(
                421, "unknown_host", "this service is not known by that name; allowed_hosts in line.toml adds one"
            )
        if method not in SAFE:
            origin = headers.get("origin")
            elsewhere = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
            if elsewhere or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                return Refused(403, "other_site", "a page of another site may not send this")
        length = headers.get("content-length", "")
        if length and (not length.isdecimal() or int(length) > self._most_bytes):
            return self._too_large()
        return None

    def _limited(self, receive: Receive) -> Receive:
        taken = 0

        async def limited() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> Refused:
        return Refused(
            413, "too_large", f"a request has at most {self._most_bytes / 1e6:g} MB (upload_mb in line.toml)"
        )


def _hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
