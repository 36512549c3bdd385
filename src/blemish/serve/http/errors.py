"""Every error of HTTP in one form: {"error": {"code", "message", "images"}}, with the status that fits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from blemish.errors import BlemishError, UnknownNameError, UsageError
from blemish.serve.inference.pool import QueueFullError
from blemish.serve.intake import DiskFullError
from blemish.serve.pictures import PictureGone

__all__ = ["Refused", "add_handlers", "error_response"]

logger = logging.getLogger(__name__)

CODES = {
    400: "bad_request",
    401: "not_logged_in",
    403: "not_allowed",
    404: "not_found",
    405: "not_found",
    410: "gone",
    413: "too_large",
    415: "bad_request",
    422: "invalid",
}


class Refused(Exception):  # noqa: N818  (an answer, and no mistake of the program)
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        code: what it is, for programs.
        message: what it is, for people.
        images: what is wrong with each image: "index", "name", "id", "code", "message".
        retry_after_s: when to try again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        images: Sequence[Mapping[str, Any]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.images = images
        self.retry_after_s = retry_after_s


def error_response(refused: Refused) -> JSONResponse:
    """The answer."""
    error: dict[str, Any] = {"code": refused.code, "message": refused.message}
    if refused.images:
        error["images"] = list(refused.images)
    headers = {} if refused.retry_after_s is None else {"Retry-After": str(max(1, round(refused.retry_after_s)))}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": error}, refused.status, headers)


def add_handlers(app: FastAPI) -> None:
    """Has everything that routes raise answered in this form."""

    @app.exception_handler(Refused)
    def _(_: Request, error: Refused) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(QueueFullError)
    def _(_: Request, error: QueueFullError) -> JSONResponse:
        return error_response(Refused(429, "queue_full", str(error), retry_after_s=error.retry_after_s))

    @app.exception_handler(DiskFullError)
    def _(_: Request, error: DiskFullError) -> JSONResponse:
        return error_response(Refused(507, "disk_full", str(error), retry_after_s=10))

    @app.exception_handler(SQLAlchemyError)
    def _(_: Request, error: SQLAlchemyError) -> JSONResponse:
        logger.error("the database cannot be reached (%s)", type(error).__name__)
        return error_response(Refused(503, "no_database", "the database cannot be reached", retry_after_s=5))

    @app.exception_handler(PictureGone)
    def _(_: Request, error: PictureGone) -> JSONResponse:
        return error_response(Refused(410, "gone", str(error)))

    @app.exception_handler(BlemishError)
    def _(_: Request, error: BlemishError) -> JSONResponse:
        code = "unknown_name" if isinstance(error, UnknownNameError) else "invalid"
        if isinstance(error, UsageError):
            return error_response(Refused(422, code, str(error)))
        logger.error("%s", error)
        return error_response(Refused(503, "unavailable", str(error)))

    @app.exception_handler(RequestValidationError)
    def _(_: Request, error: RequestValidationError) -> JSONResponse:
        said = [
            f"{'.'.join(str(part) for part in each['loc'][1:]) or 'body'}: {each['msg']}" for each in error.errors()
        ]
        return error_response(Refused(422, "invalid", "; ".join(said)[:1000]))

    @app.exception_handler(HTTPException)
    def _(_: Request, error: HTTPException) -> JSONResponse:
        return error_response(Refused(error.status_code, CODES.get(error.status_code, "error"), str(error.detail)))
