"""Routes of sources: their states, and the trigger."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from blemish.serve.http.callers import MayInspect, MayRead, ServiceOf
from blemish.serve.http.inspections import SOURCE_PATTERN

__all__ = ["router"]

router = APIRouter(prefix="/v1/sources", tags=["sources"])


@router.get("", summary="The sources and how they are")
def states(service: ServiceOf, caller: MayRead) -> dict[str, Any]:
    del caller
    return {"sources": service.sources.states(), "known": service.sources.known()}


@router.post("/{source}/trigger", status_code=202, summary="Take an image from a camera now")
def trigger(
    source: Annotated[str, Path(pattern=SOURCE_PATTERN)], service: ServiceOf, caller: MayInspect
) -> dict[str, Any]:
    del caller
    return {"source": source, "id": service.sources.trigger(source)}
