"""Routes of profiles: list, add, put a version in force, choose one for a source, calibrate from reviews."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, File, Path, UploadFile
from pydantic import BaseModel, Field

from blemish.config import Config
from blemish.errors import UsageError
from blemish.serve import auditing
from blemish.serve.http.callers import MayAdminister, MayRead, ServiceOf
from blemish.serve.http.inspections import SOURCE_PATTERN, clean
from blemish.serve.profiles import check_uploaded
from blemish.serve.reviewing import calibrated_from_reviews

__all__ = ["router"]

router = APIRouter(tags=["profiles"])

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$"
ProfileName = Annotated[str, Path(pattern=NAME)]


class ProfileWanted(BaseModel):
    """A profile to store."""

    name: str = Field(pattern=NAME)
    config: dict[str, dict[str, Any]] = Field(
        description="tables of a configuration, without paths (docs/configuration.md)"
    )
    why: str = Field(default="", max_length=1000)


class VersionChosen(BaseModel):
    """A version to put in force."""

    version: int = Field(ge=1, le=2**31 - 1)


class ProfileChosen(BaseModel):
    """A profile for a source."""

    profile: str = Field(pattern=NAME)


class CalibrationWanted(BaseModel):
    """A calibration from reviews."""

    max_false_rejects: float = Field(default=0.01, gt=0, lt=1, description="share of good images that may be NG")
    apply: bool = Field(default=False, description="store it as a new version, in force from now on")


@router.get("/v1/profiles", summary="All versions of all profiles, and which are in force")
def listed(service: ServiceOf, caller: MayRead) -> dict[str, Any]:
    del caller
    return {
        "profiles": [profile.to_dict() for profile in service.profiles.all()],
        "in_force": service.profiles.versions_in_force(),
        "sources": service.profiles.by_source(),
    }


@router.post("/v1/profiles", status_code=201, summary="Store a profile, or a new version of one")
def add(wanted: ProfileWanted, service: ServiceOf, caller: MayAdminister) -> dict[str, Any]:
    _check_finite(wanted.config)
    config = check_uploaded(Config.from_dict(wanted.config))
    profile = service.profiles.add(wanted.name, config, who=caller.name, why=clean(wanted.why))
    auditing.note(service.db, caller.name, "add_profile", wanted.name, {"version": profile.version})
    return profile.to_dict()


@router.put("/v1/profiles/{name}/file", status_code=201, summary="Store a .blemish file as a new version of a profile")
def add_file(
    name: ProfileName,
    file: Annotated[UploadFile, File(description="of blemish learn")],
    service: ServiceOf,
    caller: MayAdminister,
) -> dict[str, Any]:
    profile = service.profiles.add_file(name, file.file.read(), service.line.inspect.model, who=caller.name)
    auditing.note(service.db, caller.name, "add_profile", name, {"version": profile.version})
    return profile.to_dict()


@router.put("/v1/profiles/{name}/version", summary="Put a version in force, an earlier one to roll back")
def choose_version(
    name: ProfileName, chosen: VersionChosen, service: ServiceOf, caller: MayAdminister
) -> dict[str, Any]:
    profile = service.profiles.choose_version(name, chosen.version, who=caller.name)
    auditing.note(service.db, caller.name, "choose_version", name, {"version": chosen.version})
    return profile.to_dict()


@router.put("/v1/sources/{source}/profile", summary="Give the images of a source a profile")
def choose_for_source(
    source: Annotated[str, Path(pattern=SOURCE_PATTERN)],
    chosen: ProfileChosen,
    service: ServiceOf,
    caller: MayAdminister,
) -> dict[str, str]:
    service.profiles.choose_for_source(clean(source), chosen.profile, who=caller.name)
    auditing.note(service.db, caller.name, "choose_profile", clean(source), {"profile": chosen.profile})
    return {"source": source, "profile": chosen.profile}


@router.post("/v1/profiles/{name}/calibration", summary="Thresholds from reviews, with what they promise")
def calibrate(
    name: ProfileName, wanted: CalibrationWanted, service: ServiceOf, caller: MayAdminister
) -> dict[str, Any]:
    profile = service.profiles.get(name)
    calibration, good, bad = calibrated_from_reviews(
        service.db,
        profile,
        versions=service.profiles.versions_alike(profile),
        calibration_file=service.profiles.calibration_file(profile),
        max_false_rejects=wanted.max_false_rejects,
    )
    found = calibration.thresholds
    answer: dict[str, Any] = {
        "thresholds": {"image": found.image, "review": found.review, "pixel": found.pixel},
        "promise": found.promise,
        "notes": list(found.notes),
        "good": good,
        "bad": bad,
        "version": None,
    }
    if wanted.apply:
        # thresholds given by hand would come before the calibration's
        config = profile.config.with_settings(threshold=None, pixel_threshold=None, calibration=None)
        made = service.profiles.add(
            name,
            config,
            who=caller.name,
            why="calibrated from reviews",
            calibration=calibration.to_dict(),
            file=profile.file,
        )
        answer["version"] = made.version
        auditing.note(service.db, caller.name, "calibrate", name, {"version": made.version, **answer["thresholds"]})
    return answer


def _check_finite(value: Any) -> None:
    """UsageError where a number is none that JSON knows."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError("numbers must be finite")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_finite(each)
