"""Inspections as HTTP shows them, and the filters that routes share."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from blemish.serve.clock import iso, milliseconds
from blemish.serve.history import Filters

__all__ = ["FiltersOf", "InspectionList", "InspectionSummary", "recorded", "summary_of"]

VerdictName = Literal["ok", "review", "ng"]
StateName = Literal["waiting", "done", "failed", "cancelled"]
ReviewName = Literal["none", "accept", "reject", "other_type", "false_alarm"]
MOST_NUMBER = 2**62


class InspectionSummary(BaseModel):
    """An inspection without its regions."""

    model_config = ConfigDict(extra="allow")

    id: str
    state: StateName
    accepted: str = Field(description="ISO 8601, UTC")
    finished: str | None
    source: str
    name: str = Field(description="of the file, as it was given")
    job: str | None
    profile: str | None
    profile_version: int | None
    verdict: VerdictName | None
    image_score: float | None
    map_peak: float | None
    top_type: str | None
    region_count: int | None
    review: str | None = Field(description="label of the newest review")
    error: str | None
    has_image: bool
    has_maps: bool


class InspectionList(BaseModel):
    """A page of inspections, the newest first."""

    inspections: list[InspectionSummary]
    next: str | None = Field(description="cursor of the next page; none where this is the last one")


def summary_of(row: Any, *, record: bool = False) -> InspectionSummary:
    """An inspection's row, with its record where that is asked for."""
    more = {"record": json.loads(row.record) if row.record else None} if record else {}
    return InspectionSummary(
        id=row.id,
        state=row.state,
        accepted=iso(row.created_ms) or "",
        finished=iso(row.finished_ms),
        source=row.source,
        name=row.name,
        job=row.job,
        profile=row.profile,
        profile_version=row.profile_version,
        verdict=row.verdict,
        image_score=row.image_score,
        map_peak=row.map_peak,
        top_type=row.top_type,
        region_count=row.region_count,
        review=row.review_label,
        error=row.error,
        has_image=row.image is not None,
        has_maps=row.maps is not None,
        **more,
    )


def recorded(image_id: str, record: dict[str, Any]) -> dict[str, Any]:
    """The record of results.jsonl with its id and where its pictures are."""
    found = {name: value for name, value in record.items() if name not in ("error_kind", "id")}
    if found["verdict"] is not None:
        found |= {name: f"/v1/inspections/{image_id}/{name}" for name in ("overlay", "mask")}
        found["maps"] = f"/v1/inspections/{image_id}/maps.npz"
    return {"id": image_id, **found}


def filters_of(
    *,
    verdict: Annotated[list[VerdictName] | None, Query(description="one or several")] = None,
    state: Annotated[list[StateName] | None, Query()] = None,
    type: Annotated[str | None, Query(max_length=200, description="the top type")] = None,
    source: Annotated[str | None, Query(max_length=100)] = None,
    job: Annotated[str | None, Query(max_length=32)] = None,
    profile: Annotated[str | None, Query(max_length=100)] = None,
    name: Annotated[str | None, Query(max_length=200, description="part of the file's name")] = None,
    review: Annotated[ReviewName | None, Query(description="label of the newest review, or none")] = None,
    since: Annotated[str | None, Query(alias="from", max_length=40, description="ISO 8601, UTC by default")] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40, description="exclusive")] = None,
    lowest_score: Annotated[float | None, Query(ge=0, le=1)] = None,
    highest_score: Annotated[float | None, Query(ge=0, le=1)] = None,
) -> Filters:
    """The filters in a query."""
    return Filters(
        verdicts=tuple(dict.fromkeys(verdict or ())),
        states=tuple(dict.fromkeys(state or ())),
        top_type=_stored(type),
        source=_stored(source),
        job=_stored(job),
        profile=_stored(profile),
        name=_stored(name),
        review=review,
        from_ms=None if since is None else milliseconds(since, name="from"),
        to_ms=None if until is None else milliseconds(until, name="to"),
        lowest_score=lowest_score,
        highest_score=highest_score,
    )


FiltersOf = Annotated[Filters, Depends(filters_of)]


def _stored(text: str | None) -> str | None:
    """A text as a database can hold it: PostgreSQL refuses the character 0, which no stored text has."""
    return None if text is None else text.replace("\0", "\ufffd")
