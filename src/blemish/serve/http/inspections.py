"""Routes of inspections: inspect, list, look at one, its pictures, review it."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from blemish.serve import auditing, history, reviewing
from blemish.serve.http.callers import MayInspect, MayRead, MayReview, ServiceOf
from blemish.serve.http.errors import Refused
from blemish.serve.http.shown import FiltersOf, InspectionList, InspectionSummary, recorded, summary_of
from blemish.serve.inference.pool import QueueFullError
from blemish.serve.intake import Pending, Upload, Wanted
from blemish.serve.pictures import PictureGone, PictureKind
from blemish.serve.service import Service

__all__ = ["router", "wanted_of"]

router = APIRouter(prefix="/v1/inspections", tags=["inspections"])

LONGEST_NAME = 300
SOURCE_PATTERN = r"^[\w\-. ]{1,100}$"
POLL_S = 0.2
STATUS_OF = {"image": 422, "setup": 422, "model": 503, "worker": 503, "cancelled": 503}


class ImageProblem(BaseModel):
    """What is wrong with one of several images."""

    index: int
    id: str
    name: str
    code: str = Field(description="image, setup, model or worker")
    message: str


class Record(BaseModel):
    """A record as in results.jsonl (docs/results.md), with the id of the inspection."""

    model_config = ConfigDict(extra="allow")

    id: str
    source: str
    verdict: Literal["ok", "review", "ng"] | None
    image_score: float | None
    error: str | None


class Inspected(BaseModel):
    """The records of the images, in their order."""

    inspections: list[Record]
    errors: list[ImageProblem] = Field(description="of images that could not be inspected")


class ReviewSaid(BaseModel):
    """What a person says of an inspection."""

    label: Literal["accept", "reject", "other_type", "false_alarm"]
    type: str | None = Field(default=None, max_length=200, description="for other_type")
    note: str = Field(default="", max_length=reviewing.LONGEST_NOTE)
    reviewer: str | None = Field(default=None, max_length=100, description="by default the name of the token")


class ReviewMade(BaseModel):
    """A review."""

    label: str
    type: str | None
    note: str
    reviewer: str
    token: str
    when: str


class InspectionDetails(InspectionSummary):
    """An inspection with its record and its reviews."""

    record: dict[str, Any] | None
    reviews: list[ReviewMade]


@router.post("", summary="Inspect one or several images", response_model=Inspected)
async def inspect(
    request: Request,
    service: ServiceOf,
    *,
    caller: MayInspect,
    images: Annotated[list[UploadFile], File(description="one or several image files")],
    profile: Annotated[str | None, Form(max_length=100)] = None,
    source: Annotated[str, Form(pattern=SOURCE_PATTERN, description="where they come from")] = "http",
    defects: Annotated[str | None, Form(max_length=4000, description="names of defect types: scratch, hole")] = None,
    vocabulary: Annotated[str | None, Form(max_length=100_000, description="text of a vocabulary file (TOML)")] = None,
    threshold: Annotated[float | None, Form(ge=0, le=1)] = None,
    pixel_threshold: Annotated[float | None, Form(ge=0, le=1)] = None,
    timeout_s: Annotated[float | None, Form(gt=0, le=600)] = None,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,64}$")] = None,
) -> Any:
    """The images leave the queue where the caller leaves, or does not wait long enough. A request that is sent again with the
    same `Idempotency-Key` gets the records that the first one made."""
    settings = {
        "defects": defects,
        "vocabulary": vocabulary,
        "threshold": threshold,
        "pixel_threshold": pixel_threshold,
    }
    wanted = wanted_of(profile, source, **settings)
    if len(images) > service.line.serve.images_a_request:
        raise Refused(413, "too_large", f"a request has at most {service.line.serve.images_a_request} images")
    key = None if idempotency_key is None else f"{caller.token or 'local'}:{idempotency_key}"
    uploads = [
        Upload(named(image.filename), image.file, None if key is None else f"{key}:{number}")
        for number, image in enumerate(images)
    ]
    limit_s = timeout_s or service.line.serve.request_limit_s
    if key is not None:
        again = await _made_before(service, [upload.request_key or "" for upload in uploads], limit_s)
        if again is not None:
            return _answer([upload.name for upload in uploads], again)
    try:
        pending = await run_in_threadpool(service.intake.take, uploads, wanted)
    except QueueFullError:
        service.metrics.refused.labels("queue").inc(len(uploads))
        raise
    service.metrics.accepted.labels(source).inc(len(pending))
    records = await _wait(request, service, pending, limit_s)
    return _answer([upload.name for upload in uploads], records)


@router.get("", summary="Inspections, the newest first")
def find(
    service: ServiceOf,
    *,
    caller: MayRead,
    filters: FiltersOf,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    records: Annotated[bool, Query(description="with their records")] = False,
) -> InspectionList:
    del caller
    before = None if cursor is None else int(cursor)
    rows = history.find_inspections(service.db, filters, before=before, limit=limit + 1)
    more = len(rows) > limit
    shown = [summary_of(row, record=records) for row in rows[:limit]]
    return InspectionList(inspections=shown, next=str(rows[limit - 1].number) if more else None)


@router.get("/{image_id}", summary="One inspection with its record and its reviews")
def get(image_id: str, service: ServiceOf, caller: MayRead) -> InspectionDetails:
    del caller
    row = row_of(service, image_id)
    summary = summary_of(row, record=True).model_dump()
    if summary["record"] is not None:
        summary["record"] = recorded(row.id, summary["record"])
    return InspectionDetails(
        **summary, reviews=[ReviewMade(**each) for each in reviewing.reviews_of(service.db, row.number)]
    )


@router.get("/{image_id}/original", summary="The file as it was given", response_class=FileResponse)
def original(image_id: str, service: ServiceOf, caller: MayRead) -> FileResponse:
    del caller
    row = row_of(service, image_id)
    path = None if row.image is None else service.folder.path_of(row.image)
    if path is None or not path.is_file():
        raise PictureGone("its image is kept no more")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    # to be saved, never shown: what a browser shows is drawn anew (/image)
    return FileResponse(path, media_type=kind, filename=row.name.replace("\\", "/").rpartition("/")[2])


@router.get("/{image_id}/maps.npz", summary="The raw maps as NumPy's .npz", response_class=FileResponse)
def maps(image_id: str, service: ServiceOf, caller: MayRead) -> FileResponse:
    del caller
    row = row_of(service, image_id)
    path = None if row.maps is None else service.folder.path_of(row.maps)
    if path is None or not path.is_file():
        raise PictureGone("its maps are kept no more")
    return FileResponse(path, media_type="application/octet-stream", filename=f"{row.id}.npz")


@router.get("/{image_id}/{picture}", summary="A picture: image, overlay, mask or map", response_class=Response)
def picture(
    image_id: str,
    picture: PictureKind,
    service: ServiceOf,
    caller: MayRead,
    most_px: Annotated[int, Query(ge=0, le=20_000, description="the longer side at most; 0: as it is")] = 0,
) -> Response:
    del caller
    drawn, kind = service.pictures.draw(row_of(service, image_id), picture, most_px=most_px)
    return Response(drawn, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})


@router.put("/{image_id}/review", summary="Say what an inspection is worth")
def review(image_id: str, said: ReviewSaid, service: ServiceOf, caller: MayReview) -> ReviewMade:
    row_of(service, image_id)
    reviewer = (said.reviewer or "").strip() or caller.name
    made = reviewing.review(
        service.db,
        image_id,
        reviewing.Review(
            label=said.label, reviewer=clean(reviewer), type=clean(said.type), note=clean(said.note) or ""
        ),
        token=caller.name,
    )
    auditing.note(service.db, caller.name, "review", image_id, {"label": said.label})
    return ReviewMade(**made)


def wanted_of(profile: str | None, source: str, **settings: Any) -> Wanted:
    """What a request asks for."""
    asked = {name: value for name, value in settings.items() if value not in (None, "")}
    return Wanted(source=source, profile=profile or None, settings=asked)


def named(name: str | None) -> str:
    """The name of a file as the database holds it."""
    return clean(name)[:LONGEST_NAME] or "image"


def clean(text: str | None) -> str:
    """A text without what no database holds: the character 0, halves of characters."""
    return (text or "").replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def row_of(service: Service, image_id: str) -> Any:
    """The row of an inspection; 404 where there is none."""
    row = history.get(service.db, clean(image_id))
    if row is None:
        raise Refused(404, "not_found", "there is no such inspection")
    return row


async def _wait(request: Request, service: Service, pending: Sequence[Pending], limit_s: float) -> list[dict[str, Any]]:
    """The records, once all are there; what waits leaves the queue where the caller leaves, or time is over."""
    futures: asyncio.Future[Any] = asyncio.gather(*(asyncio.wrap_future(each.recorded) for each in pending))
    gone: asyncio.Future[Any] = asyncio.create_task(_disconnected(request))
    try:
        done, _ = await asyncio.wait({futures, gone}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if futures in done:
            return list(futures.result())
    finally:
        gone.cancel()
        if not futures.done():
            futures.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody asks for it again
            futures.cancel()
            await asyncio.shield(run_in_threadpool(service.intake.give_up, pending))
    service.metrics.refused.labels("time").inc(len(pending))
    raise Refused(
        504,
        "timeout",
        f"no result within {limit_s:g} s: images that waited left the queue; those that were begun get their records",
        images=[{"index": i, "id": each.id, "name": each.task.name} for i, each in enumerate(pending)],
        retry_after_s=5,
    )


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _made_before(service: Service, keys: list[str], limit_s: float) -> list[dict[str, Any]] | None:
    """The records of an earlier request with these keys; None where there was none."""
    until = asyncio.get_running_loop().time() + limit_s
    while True:
        rows = await run_in_threadpool(history.by_request_key, service.db, keys)
        if not rows:
            return None
        if len(rows) != len(keys):
            raise Refused(422, "other_request", "the Idempotency-Key was used for a request with other images")
        if all(row.record is not None for row in rows.values()):
            return [{**json.loads(rows[key].record), "id": rows[key].id, "error_kind": "image"} for key in keys]
        if asyncio.get_running_loop().time() > until:
            raise Refused(504, "timeout", f"no result within {limit_s:g} s", retry_after_s=5)
        await asyncio.sleep(POLL_S)


def _answer(names: Sequence[str], records: Sequence[dict[str, Any]]) -> JSONResponse:
    problems = [
        {
            "index": number,
            "id": record["id"],
            "name": name,
            "code": record["error_kind"] or "image",
            "message": record["error"],
        }
        for number, (name, record) in enumerate(zip(names, records, strict=True))
        if record["verdict"] is None
    ]
    if len(problems) == len(records):
        first = problems[0]
        message = f"{first['name']}: {first['message']}" if len(problems) == 1 else "no image could be inspected"
        raise Refused(STATUS_OF[first["code"]], f"{first['code']}_error", message, images=problems)
    return JSONResponse({"inspections": [recorded(record["id"], record) for record in records], "errors": problems})
