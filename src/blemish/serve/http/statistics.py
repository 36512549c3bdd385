"""Routes of statistics and of the threshold preview."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from blemish.errors import UsageError
from blemish.serve import counting, history
from blemish.serve.clock import HOUR_MS, milliseconds, now_ms
from blemish.serve.http.callers import MayRead, ServiceOf
from blemish.serve.http.shown import FiltersOf

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["statistics"])

DEFAULT_MS = 7 * 24 * HOUR_MS
MOST_MS = 400 * 24 * HOUR_MS


@router.get("/statistics", summary="Rates, types, scores and drift of a time; by default of the last seven days")
def statistics(
    service: ServiceOf,
    caller: MayRead,
    since: Annotated[str | None, Query(alias="from", max_length=40)] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40)] = None,
    source: Annotated[str | None, Query(max_length=100)] = None,
) -> dict[str, Any]:
    del caller
    from_ms, to_ms = _span(since, until)
    serve = service.line.serve
    return counting.summary(
        service.db,
        from_ms=from_ms,
        to_ms=to_ms,
        source=_plain(source),
        shifts=serve.shifts,
        time_zone=serve.time_zone,
    )


@router.get("/preview", summary="What other thresholds would have said, decided again from the raw scores")
def preview(
    service: ServiceOf,
    *,
    caller: MayRead,
    threshold: Annotated[float, Query(ge=0, le=1)],
    review: Annotated[float | None, Query(ge=0, le=1)] = None,
    since: Annotated[str | None, Query(alias="from", max_length=40)] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40)] = None,
    source: Annotated[str | None, Query(max_length=100)] = None,
) -> dict[str, Any]:
    del caller
    if review is not None and review >= threshold:
        raise UsageError("the review threshold must be below the image threshold")
    from_ms, to_ms = _span(since, until)
    return counting.preview(
        service.db, threshold=threshold, review=review, from_ms=from_ms, to_ms=to_ms, source=_plain(source)
    )


@router.get("/count", summary="How many inspections there are, up to 10,000")
def count(service: ServiceOf, caller: MayRead, filters: FiltersOf) -> dict[str, Any]:
    del caller
    found, more = history.count(service.db, filters)
    return {"count": found, "more": more}


def _span(since: str | None, until: str | None) -> tuple[int, int]:
    to_ms = now_ms() + 1 if until is None else milliseconds(until, name="to")
    from_ms = max(0, to_ms - DEFAULT_MS) if since is None else milliseconds(since, name="from")
    if not from_ms < to_ms <= from_ms + MOST_MS:
        raise UsageError("'from' lies before 'to', by at most 400 days")
    return from_ms, to_ms


def _plain(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "\ufffd")
