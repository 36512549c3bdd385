"""The route of exports: a selection of inspections in any format that `blemish export` knows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from blemish.serve import auditing
from blemish.serve.exporting import export_selection
from blemish.serve.http.callers import MayRead, ServiceOf
from blemish.serve.http.shown import FiltersOf

__all__ = ["router"]

router = APIRouter(prefix="/v1/exports", tags=["exports"])


@router.get("/{format_name}", summary="A selection for other tools, as a ZIP file", response_class=FileResponse)
def export(
    format_name: str,
    service: ServiceOf,
    *,
    caller: MayRead,
    filters: FiltersOf,
    images: Annotated[bool, Query(description="with the image files")] = True,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> FileResponse:
    made = export_selection(
        service.db, service.folder, service.pictures, filters, format_name=format_name, limit=limit, images=images
    )
    auditing.note(service.db, caller.name, "export", format_name[:100].replace("\0", "\ufffd"), {"images": made.count})
    return FileResponse(
        made.path, media_type="application/zip", filename=made.name, background=BackgroundTask(made.remove)
    )
