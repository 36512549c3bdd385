"""Routes for whoever runs the service: health, metrics, tokens, the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from blemish._version import __version__
from blemish.serve import auditing
from blemish.serve.http.callers import MayAdminister, MayRead, ServiceOf

__all__ = ["router"]

router = APIRouter(tags=["operations"])


class TokenWanted(BaseModel):
    """A token to make."""

    name: str = Field(min_length=1, max_length=100)
    scopes: list[Literal["read", "inspect", "review", "admin"]] = Field(min_length=1)
    days: float | None = Field(default=None, gt=0, le=36_500)


@router.get("/health/live", summary="Whether the service answers")
def live() -> dict[str, str]:
    return {"status": "live", "version": __version__}


@router.get("/health/ready", summary="Whether images can be inspected", responses={503: {"description": "not ready"}})
def ready(service: ServiceOf) -> JSONResponse:
    problems = service.problems()
    return JSONResponse(
        {"status": "not ready" if problems else "ready", "problems": problems}, 503 if problems else 200
    )


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def metrics(service: ServiceOf, caller: MayRead) -> Response:
    del caller
    return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/service", summary="What runs here: model, types, queue, sources")
def about(service: ServiceOf, caller: MayRead) -> dict[str, Any]:
    del caller
    pool, line = service.pool, service.line
    return {
        "version": __version__,
        **{name: service.pool.facts.get(name) for name in ("model", "types", "thresholds", "error")},
        "queue": {"waiting": pool.waiting, "limit": pool.most_waiting, "promise_s": round(pool.promise_s, 3)},
        "workers": len(pool.process_ids),
        "ready": not service.problems(),
        "sources": service.sources.states(),
        "shifts": list(line.serve.shifts),
        "time_zone": line.serve.time_zone,
        "limits": {"images_a_request": line.serve.images_a_request, "upload_mb": line.serve.upload_mb},
    }


@router.get("/v1/tokens", summary="All tokens, without their secrets")
def tokens(service: ServiceOf, caller: MayAdminister) -> dict[str, Any]:
    del caller
    return {"tokens": service.access.listed()}


@router.post("/v1/tokens", status_code=201, summary="Make a token; it is shown this once")
def make_token(wanted: TokenWanted, service: ServiceOf, caller: MayAdminister) -> dict[str, str]:
    token = service.access.create(wanted.name.replace("\0", "\ufffd"), wanted.scopes, days=wanted.days)
    auditing.note(
        service.db, caller.name, "make_token", wanted.name.replace("\0", "\ufffd"), {"scopes": list(wanted.scopes)}
    )
    return {"token": token}


@router.delete("/v1/tokens/{token_id}", summary="End a token")
def end_token(token_id: str, service: ServiceOf, caller: MayAdminister) -> dict[str, str]:
    name = service.access.revoke(token_id.replace("\0", "\ufffd"))
    auditing.note(service.db, caller.name, "end_token", token_id)
    return {"ended": name}


@router.get("/v1/audit", summary="Who changed what, the newest first")
def audit(
    service: ServiceOf,
    caller: MayAdminister,
    before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    del caller
    return {"audit": auditing.notes(service.db, before=before, limit=limit)}
