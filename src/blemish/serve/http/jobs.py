"""Routes of jobs: many images in the background."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Response, UploadFile
from pydantic import BaseModel, Field

from blemish.serve import auditing
from blemish.serve.http.callers import MayInspect, MayRead, ServiceOf
from blemish.serve.http.errors import Refused
from blemish.serve.http.inspections import SOURCE_PATTERN, clean, named, wanted_of
from blemish.serve.intake import Upload

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class JobWanted(BaseModel):
    """Images of a configured folder to inspect."""

    folder: str = Field(max_length=100, description="the name of one of [[folders]] in line.toml")
    names: list[Annotated[str, Field(max_length=1000)]] | None = Field(
        default=None, max_length=100_000, description="images below it; by default all"
    )
    source: str | None = Field(default=None, pattern=SOURCE_PATTERN, description="by default the folder's name")
    profile: str | None = Field(default=None, max_length=100)
    defects: str | None = Field(default=None, max_length=4000)
    vocabulary: str | None = Field(default=None, max_length=100_000)
    threshold: float | None = Field(default=None, ge=0, le=1)
    pixel_threshold: float | None = Field(default=None, ge=0, le=1)


class JobState(BaseModel):
    """What became of a job so far."""

    id: str
    state: str = Field(description="waiting, running, done, failed or cancelled")
    created: str
    started: str | None
    finished: str | None
    asked: dict[str, Any]
    total: int | None = Field(description="images; none until all are listed")
    images: dict[str, int] = Field(description="how many are waiting, done, failed, cancelled")
    verdicts: dict[str, int]
    error: str | None


class JobList(BaseModel):
    """The newest jobs."""

    jobs: list[JobState]
    folders: list[str] = Field(description="those that a job may name")


@router.post("", status_code=202, summary="Inspect the images of a folder in the background")
def add(wanted: JobWanted, response: Response, service: ServiceOf, caller: MayInspect) -> JobState:
    asked = wanted.model_dump(exclude_none=True, include={"defects", "vocabulary", "threshold", "pixel_threshold"})
    profile = service.profiles.get(wanted.profile) if wanted.profile else None
    if profile is not None or asked:
        service.profiles.setup(profile or service.profiles.get("default"), asked)  # refused now, not at the first image
    job = service.jobs.add_folder(
        clean(wanted.folder),
        None if wanted.names is None else [clean(name) for name in wanted.names],
        {"source": wanted.source or clean(wanted.folder), "profile": wanted.profile, "settings": asked},
    )
    return _accepted(job, response, service, caller.name)


@router.post("/uploads", status_code=202, summary="Inspect uploaded images in the background")
def upload(
    response: Response,
    service: ServiceOf,
    *,
    caller: MayInspect,
    images: Annotated[list[UploadFile], File()],
    profile: Annotated[str | None, Form(max_length=100)] = None,
    source: Annotated[str, Form(pattern=SOURCE_PATTERN)] = "http",
    defects: Annotated[str | None, Form(max_length=4000)] = None,
    vocabulary: Annotated[str | None, Form(max_length=100_000)] = None,
    threshold: Annotated[float | None, Form(ge=0, le=1)] = None,
    pixel_threshold: Annotated[float | None, Form(ge=0, le=1)] = None,
) -> JobState:
    settings = {
        "defects": defects,
        "vocabulary": vocabulary,
        "threshold": threshold,
        "pixel_threshold": pixel_threshold,
    }
    wanted = wanted_of(profile, source, **settings)
    job = service.jobs.add_uploaded([Upload(named(image.filename), image.file) for image in images], wanted)
    service.metrics.accepted.labels(source).inc(len(images))
    return _accepted(job, response, service, caller.name)


@router.get("", summary="The newest jobs")
def listed(service: ServiceOf, caller: MayRead) -> JobList:
    del caller
    return JobList(jobs=[JobState(**job) for job in service.jobs.listed()], folders=list(service.jobs.folders))


@router.get("/{job_id}", summary="What became of a job so far")
def get(job_id: str, service: ServiceOf, caller: MayRead) -> JobState:
    del caller
    job = service.jobs.get(clean(job_id))
    if job is None:
        raise Refused(404, "not_found", "there is no such job")
    return JobState(**job)


@router.delete("/{job_id}", summary="End a job; images that wait are not inspected")
def cancel(job_id: str, service: ServiceOf, caller: MayInspect) -> JobState:
    if service.jobs.get(clean(job_id)) is None:
        raise Refused(404, "not_found", "there is no such job")
    if service.jobs.cancel(job_id):
        auditing.note(service.db, caller.name, "cancel_job", job_id)
    return JobState(**(service.jobs.get(job_id) or {}))


def _accepted(job: str, response: Response, service: Any, who: str) -> JobState:
    response.headers["Location"] = f"/v1/jobs/{job}"
    auditing.note(service.db, who, "add_job", job)
    return JobState(**service.jobs.get(job))
