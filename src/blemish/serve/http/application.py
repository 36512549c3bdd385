"""The application: the guard, the routes, the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI

from blemish._version import __version__
from blemish.serve.access import RateLimit
from blemish.serve.http import (
    callers,
    exports,
    inspections,
    jobs,
    label_studio,
    operations,
    pages,
    profiles,
    sources,
    statistics,
)
from blemish.serve.http.errors import add_handlers
from blemish.serve.http.guard import Guard
from blemish.serve.line import LOOPBACK, is_loopback
from blemish.serve.service import Service

__all__ = ["make_application"]

ROUTERS: tuple[APIRouter, ...] = (
    callers.router,
    inspections.router,
    jobs.router,
    profiles.router,
    sources.router,
    statistics.router,
    exports.router,
    label_studio.router,
    operations.router,
    pages.router,
)
ERROR_FORM: Mapping[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "What is wrong with the request, and with each image",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["code", "message"],
                            "properties": {
                                "code": {"type": "string"},
                                "message": {"type": "string"},
                                "images": {"type": "array", "items": {"type": "object"}},
                            },
                        }
                    },
                }
            }
        },
    }
}


def make_application(service: Service) -> FastAPI:
    """The application of a running service; whoever makes it closes the service."""
    app = FastAPI(
        title="Blemish",
        version=__version__,
        description="Zero-shot visual inspection: images in, verdicts, defect types and regions out.",
        docs_url=None,  # Swagger's page comes from another site's servers
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        responses=dict(ERROR_FORM),
    )
    serve = service.line.serve
    app.state.service = service
    app.state.rate_limit = RateLimit(serve.requests_a_minute)
    add_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    hosts = {*LOOPBACK, serve.host, *serve.allowed_hosts} if serve.allowed_hosts or is_loopback(serve.host) else set()
    app.add_middleware(Guard, hosts=hosts, most_bytes=int(serve.upload_mb * 1e6))
    return app
