"""A server on this machine that holds images: as plain HTTP, and as a bucket in the way of S3 (list, head, get)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["served"]

FORBIDDEN = "closed"  # the bucket that nobody may look into


@contextmanager
def served(objects: Mapping[str, bytes]) -> Iterator[str]:
    """The host and port of a server that holds these objects in the bucket "images", by their keys."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            bucket, _, key = unquote(parts.path).strip("/").partition("/")
            if bucket == FORBIDDEN:
                self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
            elif not key and "list-type" in parts.query:
                self._answer(200, _listing(objects, parse_qs(parts.query).get("prefix", [""])[0]))
            elif not key:
                self._answer(200, b"")
            elif key in objects:
                self._answer(200, objects[key], self.headers.get("Range"))
            else:
                self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>not there</Message></Error>")

        def _answer(self, status: int, body: bytes, wanted: str | None = None) -> None:
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
            self.send_response(206 if found else status)
            if found:
                first, last = int(found[1]), min(int(found[2]), len(body) - 1)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
                body = body[first : last + 1]
            self.send_header("Content-Length", str(len(body)))
            self.send_header(
                "Content-Type", "application/xml" if status != 200 or b"<List" in body[:80] else "image/png"
            )
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listing(objects: Mapping[str, bytes], prefix: str) -> bytes:
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag>"
        f"<Size>{len(body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key, body in sorted(objects.items())
        if key.startswith(prefix)
    )
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>images</Name>'
        f"<Prefix>{escape(prefix)}</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    ).encode()
