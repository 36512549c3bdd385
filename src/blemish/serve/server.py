"""The process of `blemish serve`: the port, the service, uvicorn, and a graceful end."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import uvicorn

from blemish.errors import UsageError
from blemish.io.atomic import reason
from blemish.serve.http.application import make_application
from blemish.serve.line import LineConfig, is_loopback
from blemish.serve.service import Service

__all__ = ["JsonLines", "run_service", "serve_on"]

GRACE_S = 10  # for requests that run when the service is stopped
FACTS = "facts"  # of a log line: what else is known


class JsonLines(logging.Formatter):
    """Log lines as JSON, one object a line; no secret is among their facts."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": when, "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage(), **getattr(record, FACTS, {})}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def serve_on(host: str, port: int) -> socket.socket:
    """A socket that listens there, before anything else is started; UsageError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{host}:{port}: cannot be listened on ({reason(error)}); choose another with --port"
        ) from error
    except OverflowError as error:
        listening.close()
        raise UsageError(f"a port lies in 0..65535, not {port}") from error
    return listening


def run_service(
    line: LineConfig,
    *,
    started: Callable[[str, Service], None] = lambda _address, _service: None,
    environment: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serves until a signal ends it, or `stop` is set.

    Args:
        line: What it is started with.
        started: Is called with the address of the page, and the service, once it listens.
        environment: Variables of the worker processes.
        stop: Ends the service from another thread.

    Raises:
        UsageError: The port is taken, others could reach it without a token, the database is that of a newer version.
        OutputError: Data folder or database cannot be written.
    """
    serve = line.serve
    with closing(serve_on(serve.host, serve.port)) as listening:
        host, port = listening.getsockname()[:2]
        service = Service(line, environment=environment)
        try:
            if not is_loopback(serve.host) and not service.access.any_tokens():
                raise UsageError(
                    f"{serve.host} can be reached from other machines, and no token exists: make one with "
                    "blemish serve token create NAME --scope admin, or leave --host out"
                )
            config = uvicorn.Config(
                make_application(service),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=20,
                h11_max_incomplete_event_size=64 * 1024,
            )
            server = uvicorn.Server(config)
            shown = f"[{host}]" if ":" in host else host
            started(f"http://{shown}:{port}/", service)
            if stop is not None:
                threading.Thread(target=_end_when, args=(stop, server), daemon=True).start()
            server.run(sockets=[listening])
        finally:
            service.close()


def _end_when(stop: threading.Event, server: uvicorn.Server) -> None:
    stop.wait()
    server.should_exit = True
