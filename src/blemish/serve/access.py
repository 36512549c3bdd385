"""Who may do what: tokens with scopes, of which the database holds a hash alone, and sessions of the page."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Engine

from blemish.errors import UnknownNameError, UsageError
from blemish.serve.clock import iso, now_ms
from blemish.serve.database.tables import sessions, tokens
from blemish.serve.history import reading

__all__ = ["LOCAL", "SCOPES", "Access", "Caller", "LoginSession", "RateLimit"]

SCOPES = ("read", "inspect", "review", "admin")
PREFIX = "blemish"  # of a token, so that it is known for one where it turns up: blemish_ID_SECRET
SESSION_MS = 12 * 3_600_000
MOST_BUCKETS = 10_000
RECENT_S = 2.0  # after so long, a token that another process ended is refused


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    name: str  # of the token
    scopes: frozenset[str]
    token: str = ""  # its id; "" for the machine itself

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


LOCAL = Caller("local", frozenset(SCOPES))  # on a machine where no token exists


@dataclass(frozen=True)
class LoginSession:
    """What a login gives."""

    cookie: str
    csrf: str  # what requests that change something must repeat in a header


class Access:
    """The tokens and sessions in a database."""

    def __init__(self, db: Engine) -> None:
        self._db = db
        self._known: dict[str, tuple[float, Any]] = {}  # what was found in the last moments, by what it was asked for

    def any_tokens(self) -> bool:
        """Whether a token was ever made: then every request needs one."""

        def find() -> bool:
            with reading(self._db) as connection:
                return bool(connection.execute(select(func.count()).select_from(tokens)).scalar_one())

        return bool(self._recently("", find))

    def create(self, name: str, scopes: Iterable[str], *, days: float | None = None) -> str:
        """A new token, which is shown this once."""
        wanted = sorted(set(scopes))
        for scope in wanted:
            if scope not in SCOPES:
                raise UnknownNameError("scope", scope, SCOPES)
        if not wanted:
            raise UsageError(f"a token needs at least one scope: {', '.join(SCOPES)}")
        if not name.strip() or len(name) > 100:
            raise UsageError("a token needs a name of at most 100 characters, as the station that uses it")
        if days is not None and not days > 0:
            raise UsageError(f"a token is valid for a number of days above 0, not {days:g}")
        token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        self._known.clear()
        with self._db.begin() as connection:
            connection.execute(
                insert(tokens).values(
                    id=token_id,
                    name=name,
                    digest=_digest(secret),
                    scopes=" ".join(wanted),
                    created_ms=now_ms(),
                    expires_ms=None if days is None else now_ms() + round(days * 86_400_000),
                )
            )
        return f"{PREFIX}_{token_id}_{secret}"

    def revoke(self, token_id: str) -> str:
        """Ends a token and its sessions; its name."""
        with self._db.begin() as connection:
            name = connection.execute(select(tokens.c.name).where(tokens.c.id == token_id)).scalar()
            if name is None:
                raise UnknownNameError("token", token_id[:40], connection.execute(select(tokens.c.id)).scalars())
            connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_ms=now_ms()))
            connection.execute(delete(sessions).where(sessions.c.token == token_id))
        self._known.clear()
        return str(name)

    def listed(self) -> list[dict[str, Any]]:
        """All tokens, without their secrets."""
        with reading(self._db) as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.created_ms)).all()
        return [
            {
                "id": row.id,
                "name": row.name,
                "scopes": row.scopes.split(),
                "created": iso(row.created_ms),
                "expires": iso(row.expires_ms),
                "revoked": iso(row.revoked_ms),
            }
            for row in rows
        ]

    def _recently(self, key: str, find: Callable[[], Any]) -> Any:
        """What `find` gives, asked for again after a moment only: every request asks."""
        now = time.monotonic()
        since, found = self._known.get(key, (-RECENT_S, None))
        if now - since >= RECENT_S:
            found = find()
            if len(self._known) > MOST_BUCKETS:
                self._known.clear()
            self._known[key] = (now, found)
        return found

    def caller_of(self, token: str) -> Caller | None:
        """Who has this token; None where it is none, or valid no more."""
        found: Caller | None = self._recently(_digest(token), lambda: self._caller_of(token))
        return found

    def _caller_of(self, token: str) -> Caller | None:
        prefix, _, rest = token.partition("_")
        token_id, _, secret = rest.partition("_")
        if prefix != PREFIX or not secret or len(token) > 200:
            return None
        row = self._row(token_id)
        if row is None or not hmac.compare_digest(row.digest, _digest(secret)):
            return None
        return Caller(row.name, frozenset(row.scopes.split()), row.id)

    def log_in(self, token: str) -> LoginSession | None:
        """A session for the page; None where the token is none."""
        caller = self.caller_of(token)
        if caller is None:
            return None
        session = LoginSession(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        with self._db.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_ms < now_ms()))
            connection.execute(
                insert(sessions).values(
                    digest=_digest(session.cookie),
                    token=caller.token,
                    csrf=session.csrf,
                    expires_ms=now_ms() + SESSION_MS,
                )
            )
        return session

    def session_of(self, cookie: str) -> tuple[Caller, str] | None:
        """Who has this session's cookie, and what requests that change something must repeat."""
        found: tuple[Caller, str] | None = self._recently(_digest(cookie), lambda: self._session_of(cookie))
        return found

    def _session_of(self, cookie: str) -> tuple[Caller, str] | None:
        with reading(self._db) as connection:
            row = connection.execute(
                select(sessions).where(sessions.c.digest == _digest(cookie), sessions.c.expires_ms > now_ms())
            ).one_or_none()
        token = None if row is None else self._row(row.token)
        if row is None or token is None:
            return None
        return Caller(token.name, frozenset(token.scopes.split()), token.id), row.csrf

    def log_out(self, cookie: str) -> None:
        with self._db.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.digest == _digest(cookie)))
        self._known.clear()

    def _row(self, token_id: str) -> Any:
        with reading(self._db) as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
        if row is None or row.revoked_ms is not None:
            return None
        return None if row.expires_ms is not None and row.expires_ms <= now_ms() else row


class RateLimit:
    """So many requests a minute of each caller, saved up for at most a minute."""

    def __init__(self, a_minute: int) -> None:
        self.a_minute = a_minute
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, key: str) -> float:
        """Counts a request; 0 where it may pass, else the seconds until the next one may."""
        now = time.monotonic()
        with self._lock:
            if len(self._left) > MOST_BUCKETS:
                self._left.clear()
            left, since = self._left.get(key, (float(self.a_minute), now))
            left = min(float(self.a_minute), left + (now - since) * self.a_minute / 60)
            if left < 1:
                self._left[key] = (left, now)
                return (1 - left) * 60 / self.a_minute
            self._left[key] = (left - 1, now)
            return 0.0


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
