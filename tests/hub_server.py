"""A hub on loopback that speaks as much as a pull needs, and can break off, fail, or serve the wrong bytes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What the hub holds, how it misbehaves, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=dict)  # "owner/repository/file"
    etags: dict[str, str] = field(default_factory=dict)  # what it states, where that is not the file's sha256
    break_after: list[int] = field(default_factory=list)  # bytes of each next transfer, then the connection is cut
    down_after_break: bool = False  # after a broken transfer the answer is 503
    ignores_ranges: bool = False  # sends all of a file whatever part is asked for
    address: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # bytes of each transfer
    broken: bool = False


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub at `hub.address` for the duration of the block."""
    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        hub = self.served
        hub.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        key = self.path.lstrip("/").replace("/resolve/main", "")
        if hub.broken and hub.down_after_break and with_body:
            self._plain(503, {})
        elif key not in hub.files:
            self._plain(404, {"X-Error-Code": "EntryNotFound"})
        else:
            self._file(key, with_body=with_body)

    def _file(self, key: str, *, with_body: bool) -> None:
        hub, data = self.served, self.served.files[key]
        ranged = "Range" in self.headers and not hub.ignores_ranges
        start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]) if ranged else 0
        etag = hub.etags.get(key, hashlib.sha256(data).hexdigest())
        self.send_response(206 if ranged else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Linked-Etag", f'"{etag}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Accept-Ranges", "bytes")
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        cut = hub.break_after.pop(0) if with_body and hub.break_after else None
        if cut is not None:
            self.send_header("Connection", "close")
        self.end_headers()
        if not with_body:
            return
        body = data[start:] if cut is None else data[start : start + cut]
        hub.sent.append(len(body))
        self.wfile.write(body)
        if cut is not None:
            hub.broken = True
            self.close_connection = True

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
