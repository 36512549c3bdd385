"""Who calls: a token in the header, a session's cookie, or this machine itself where no token exists; and what they may."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from blemish.serve import auditing
from blemish.serve.access import LOCAL, SESSION_MS, Caller, RateLimit
from blemish.serve.http.errors import Refused
from blemish.serve.service import Service

__all__ = ["CSRF_HEADER", "MayAdminister", "MayInspect", "MayRead", "MayReview", "ServiceOf", "router", "service_of"]

COOKIE = "blemish_session"
CSRF_HEADER = "X-Blemish-CSRF"
SAFE = ("GET", "HEAD", "OPTIONS")
FAILED_A_MINUTE = 10  # logins and tokens that are none, from one address

router = APIRouter(prefix="/v1", tags=["session"])
_failures = RateLimit(FAILED_A_MINUTE)


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(service_of)]


def caller_of(request: Request) -> Caller:
    """Who calls; 401 where nobody says, 403 where a page does not repeat what its session was given."""
    service = service_of(request)
    header = request.headers.get("authorization", "")
    cookie = request.cookies.get(COOKIE)
    address = request.client.host if request.client else ""
    if header:
        scheme, _, token = header.partition(" ")
        caller = service.access.caller_of(token.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            _count_failure(address)
            raise Refused(401, "bad_token", "this token is unknown, ended or expired")
    elif cookie and (session := service.access.session_of(cookie)) is not None:
        caller, csrf = session
        repeated = request.headers.get(CSRF_HEADER, "")
        if request.method not in SAFE and not hmac.compare_digest(repeated.encode(), csrf.encode()):
            raise Refused(403, "no_csrf", f"requests of a page carry the header {CSRF_HEADER}")
    elif not service.access.any_tokens():
        caller = LOCAL
    else:
        raise Refused(401, "not_logged_in", "a token is needed: Authorization: Bearer …, or log in on the page")
    limit: RateLimit = request.app.state.rate_limit
    wait_s = limit.wait_s(caller.token or address)
    if wait_s:
        service.metrics.refused.labels("rate").inc()
        raise Refused(429, "too_many_requests", "too many requests; slow down", retry_after_s=wait_s)
    return caller


def allowed(scope: str) -> Callable[[Caller], Caller]:
    """A dependency: the caller, who has this scope."""

    def check(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
        if not caller.may(scope):
            raise Refused(403, "not_allowed", f"the token {caller.name!r} lacks the scope {scope!r}")
        return caller

    return check


MayRead = Annotated[Caller, Depends(allowed("read"))]
MayInspect = Annotated[Caller, Depends(allowed("inspect"))]
MayReview = Annotated[Caller, Depends(allowed("review"))]
MayAdminister = Annotated[Caller, Depends(allowed("admin"))]


class Login(BaseModel):
    """A token to log in with."""

    token: str = Field(max_length=200)


class SessionInfo(BaseModel):
    """Who is logged in."""

    name: str
    scopes: list[str]
    csrf: str | None = Field(default=None, description=f"what requests that change something repeat as {CSRF_HEADER}")
    local: bool = Field(description="no token exists: this machine may do all")


@router.post("/session", summary="Log in with a token; sets a cookie")
def log_in(login: Login, request: Request, response: Response, service: ServiceOf) -> SessionInfo:
    session = service.access.log_in(login.token.strip())
    if session is None:
        _count_failure(request.client.host if request.client else "")
        raise Refused(401, "bad_token", "this token is unknown, ended or expired")
    caller, csrf = service.access.session_of(session.cookie) or (LOCAL, "")
    response.set_cookie(
        COOKIE,
        session.cookie,
        max_age=SESSION_MS // 1000,
        httponly=True,
        samesite="strict",
        secure=service.line.serve.secure_cookies,
    )
    auditing.note(service.db, caller.name, "log_in", caller.token)
    return SessionInfo(name=caller.name, scopes=sorted(caller.scopes), csrf=csrf, local=False)


@router.get("/session", summary="Who is logged in")
def who(request: Request, caller: Annotated[Caller, Depends(caller_of)], service: ServiceOf) -> SessionInfo:
    session: Any = service.access.session_of(request.cookies.get(COOKIE, ""))
    csrf = None if session is None else session[1]
    return SessionInfo(name=caller.name, scopes=sorted(caller.scopes), csrf=csrf, local=caller is LOCAL)


@router.delete("/session", status_code=204, summary="Log out")
def log_out(request: Request, caller: Annotated[Caller, Depends(caller_of)], service: ServiceOf) -> Response:
    del caller
    service.access.log_out(request.cookies.get(COOKIE, ""))
    gone = Response(status_code=204)
    gone.delete_cookie(COOKIE)
    return gone


def _count_failure(address: str) -> None:
    wait_s = _failures.wait_s(address)
    if wait_s:
        raise Refused(429, "too_many_requests", "too many failed logins", retry_after_s=wait_s)
