"""The review page: a few files of this package, and nothing from anywhere else."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePosixPath

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from blemish.serve.http.errors import Refused

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


def _files() -> dict[str, bytes]:
    folder = resources.files("blemish.serve") / "page"
    return {file.name: file.read_bytes() for file in folder.iterdir() if PurePosixPath(file.name).suffix in KINDS}


FILES = _files()


@router.get("/")
def root() -> RedirectResponse:
    return RedirectResponse("/page/", 307)


@router.get("/page/{name:path}")
def page(name: str) -> Response:
    """A file of the page; a name that is none of them is none of ours."""
    name = name or "index.html"
    if name not in FILES:
        raise Refused(404, "not_found", "there is no such page")
    return Response(FILES[name], media_type=KINDS[PurePosixPath(name).suffix], headers={"Cache-Control": "no-cache"})
