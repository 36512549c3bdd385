"""What others may not do: without a token, with a forged one, from another site, by names, sizes and scripts."""

from __future__ import annotations

import io
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from blemish.errors import UsageError
from blemish.serve.database.tables import sessions, tokens
from blemish.serve.http import callers
from blemish.serve.http.callers import CSRF_HEADER
from blemish.serve.server import JsonLines, run_service
from blemish.serve.service import Service
from serve.conftest import line_of, picture, post, running

ALL = ("read", "inspect", "review", "admin")
ROUTES = (
    ("GET", "/v1/inspections", "read"),
    ("GET", "/v1/statistics", "read"),
    ("GET", "/v1/exports/csv", "read"),
    ("GET", "/metrics", "read"),
    ("POST", "/v1/jobs", "inspect"),
    ("PUT", "/v1/inspections/x/review", "review"),
    ("GET", "/v1/tokens", "admin"),
    ("POST", "/v1/profiles", "admin"),
    ("GET", "/v1/audit", "admin"),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, TestClient]]:
    """A service that needs tokens, small limits, and a folder whose images jobs may name."""
    folder = tmp_path_factory.mktemp("secure")
    (folder / "inbox").mkdir()
    (folder / "inbox" / "a.png").write_bytes(picture())
    (folder / "secret.png").write_bytes(picture())
    roots = [{"name": "inbox", "path": str(folder / "inbox")}]
    with running(folder, serve={"upload_mb": 0.5}, folders=roots) as (service, client):
        service.access.create("first", ["read"])
        yield service, client


@pytest.fixture(autouse=True)
def no_failures_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_failures", callers.RateLimit(callers.FAILED_A_MINUTE))


def bearer(service: Service, *scopes: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.access.create('test', scopes)}"}


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_every_route_needs_its_scope(served: tuple[Service, TestClient], method: str, path: str, scope: str) -> None:
    service, client = served
    assert client.request(method, path).status_code == 401
    others = [each for each in ALL if each not in (scope, "admin")]
    assert client.request(method, path, headers=bearer(service, *others)).status_code == 403
    assert client.request(method, path, headers=bearer(service, scope)).status_code not in (401, 403)


def test_forged_ended_and_expired_tokens_are_refused(served: tuple[Service, TestClient]) -> None:
    service, client = served
    good = service.access.create("good", ["read"])
    prefix, token_id, secret = good.split("_", 2)
    ended = service.access.create("ended", ["read"])
    service.access.revoke(ended.split("_")[1])
    short = service.access.create("short", ["read"], days=1e-9)
    bad = ["", "x", f"{prefix}_{token_id}_{'A' * len(secret)}", f"{prefix}_{token_id}_", f"{good}x", ended, short]
    for token in bad:
        assert client.get("/v1/inspections", headers={"Authorization": f"Bearer {token}"}).status_code == 401, token
    assert client.get("/v1/inspections", headers={"Authorization": f"Bearer {good}"}).status_code == 200


def test_guessing_tokens_is_slowed_down(served: tuple[Service, TestClient]) -> None:
    _, client = served
    codes = [client.post("/v1/session", json={"token": f"guess-{n}"}).status_code for n in range(15)]
    assert codes[:10] == [401] * 10
    assert codes[-1] == 429


def test_the_database_holds_no_secret(served: tuple[Service, TestClient]) -> None:
    service, client = served
    token = service.access.create("kept", ["read"])
    cookie = client.post("/v1/session", json={"token": token}).cookies["blemish_session"]
    client.cookies.clear()
    with service.db.connect() as connection:
        rows = [*connection.execute(select(tokens)), *connection.execute(select(sessions))]
    text = json.dumps([list(row) for row in rows])
    assert token.split("_", 2)[2] not in text
    assert cookie not in text


def test_a_session_changes_something_only_with_what_it_was_given(served: tuple[Service, TestClient]) -> None:
    service, client = served
    headers = bearer(service, "inspect")
    image_id = client.post("/v1/inspections", files=[("images", ("a.png", picture()))], headers=headers).json()[
        "inspections"
    ][0]["id"]
    answer = client.post("/v1/session", json={"token": service.access.create("page", ["read", "review"])})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    csrf = answer.json()["csrf"]
    try:
        review = f"/v1/inspections/{image_id}/review"
        assert client.get("/v1/inspections").status_code == 200
        assert client.put(review, json={"label": "accept"}).status_code == 403
        assert client.put(review, json={"label": "accept"}, headers={CSRF_HEADER: "x"}).status_code == 403
        assert client.put(review, json={"label": "accept"}, headers={CSRF_HEADER: csrf}).status_code == 200
        assert client.delete("/v1/session", headers={CSRF_HEADER: csrf}).status_code == 204
    finally:
        client.cookies.clear()
    stolen = {"Cookie": cookie.partition(";")[0]}
    assert client.get("/v1/inspections", headers=stolen).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": "http://testserver.evil.example"},
    ],
)
def test_another_site_may_not_send_anything(served: tuple[Service, TestClient], headers: dict[str, str]) -> None:
    service, client = served
    answer = client.post("/v1/jobs", json={"folder": "inbox"}, headers={**bearer(service, *ALL), **headers})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "other_site")


def test_a_name_that_another_site_points_here_is_refused(served: tuple[Service, TestClient]) -> None:
    _, client = served
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[", "evil.example:8765"):
        assert client.get("/health/live", headers={"Host": host}).status_code == 421


def test_no_path_outside_can_be_named(served: tuple[Service, TestClient], tmp_path: Path) -> None:
    service, client = served
    headers = bearer(service, *ALL)
    for name in ("../secret.png", "/etc/passwd", "a/../../secret.png", "..", "."):
        answer = client.post("/v1/jobs", json={"folder": "inbox", "names": [name]}, headers=headers)
        assert answer.status_code == 422, name
    for path in ("..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/blemish.sqlite3", "../data/blemish.sqlite3", "a%00"):
        assert client.get(f"/page/{path}", headers=headers).status_code == 404
        assert client.get(f"/v1/inspections/{path}", headers=headers).status_code in (404, 422)
    config: dict[str, Any] = {}
    for config in (
        {"masks": {"roi": "/etc/passwd"}},
        {"model": {"backbone": "../../x"}},
        {"vocabulary": {"vocabulary": "x.toml"}},
        {"references": {"references": "images"}},
        {"thresholds": {"calibration": "c.json"}},
    ):
        answer = client.post("/v1/profiles", json={"name": "x", "config": config}, headers=headers)
        assert answer.status_code == 422, config
    link = service.folder.path / "images" / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="outside the data folder"):
        service.folder.path_of("images/link/x")
    link.unlink()


def test_a_file_is_kept_under_a_name_of_ours(served: tuple[Service, TestClient]) -> None:
    service, client = served
    headers = bearer(service, *ALL)
    name = '../../<script>alert(1)</script>\r\nX: y".PNG'
    answer = client.post("/v1/inspections", files=[("images", (name, picture()))], headers=headers)
    image_id = answer.json()["inspections"][0]["id"]
    places = [place for place, _, _ in service.folder.files() if image_id in place]
    assert {place.rpartition("/")[2] for place in places} == {f"{image_id}.png", f"{image_id}.npz"}
    original = client.get(f"/v1/inspections/{image_id}/original", headers=headers)
    assert original.headers["content-disposition"].startswith("attachment")
    assert "X" not in {key.upper() for key in original.headers}
    assert original.headers["x-content-type-options"] == "nosniff"


def test_too_large_is_refused_before_anything_is_decoded(served: tuple[Service, TestClient]) -> None:
    service, client = served
    headers = bearer(service, *ALL)
    large = {"files": [("images", ("a.png", b"x" * 600_000))], "headers": headers}
    answer = client.post("/v1/inspections", **large)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(60):
            yield b"x" * 10_000

    boundary = {"Content-Type": "multipart/form-data; boundary=b", **headers}
    assert client.post("/v1/inspections", content=pieces(), headers=boundary).status_code in (400, 413)
    many = [("images", (f"{n}.png", b"x")) for n in range(40)]
    assert client.post("/v1/inspections", files=many, headers=headers).status_code == 413


def bomb() -> bytes:
    """A PNG file of a few kilobytes that claims 30,000 by 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
        + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused(served: tuple[Service, TestClient]) -> None:
    service, client = served
    answer = client.post("/v1/inspections", files=[("images", ("a.png", bomb()))], headers=bearer(service, *ALL))
    assert answer.status_code == 422
    assert "above the limit of" in answer.json()["error"]["message"]
    assert service.pool.restarts == 0


def test_every_answer_has_the_headers_that_browsers_keep_to(served: tuple[Service, TestClient]) -> None:
    _, client = served
    for path in ("/page/", "/health/live", "/v1/inspections", "/nothing"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "cache-control" in headers


def test_too_many_requests_are_slowed_down(tmp_path: Path) -> None:
    with running(tmp_path, serve={"requests_a_minute": 5}) as (_, client):
        codes = [client.get("/v1/inspections").status_code for _ in range(8)]
        assert codes == [200] * 5 + [429] * 3


def test_a_service_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no token exists: make one"):
        run_service(line_of(tmp_path / "data", serve={"host": "0.0.0.0", "port": 0}))


def test_logs_are_json_and_hold_no_token(tmp_path: Path) -> None:
    held = io.StringIO()
    handler = logging.StreamHandler(held)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("blemish.serve")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with running(tmp_path) as (service, client):
            token = service.access.create("logged", ["read"])
            client.get("/v1/inspections", headers={"Authorization": f"Bearer {token}"})
            client.post("/v1/session", json={"token": token})
    finally:
        logger.removeHandler(handler)
    lines = [json.loads(line) for line in held.getvalue().splitlines()]
    assert any(line.get("path") == "/v1/inspections" and line["status"] == 200 for line in lines)
    assert token.split("_", 2)[2] not in held.getvalue()


def test_what_people_do_is_in_the_audit_log(served: tuple[Service, TestClient]) -> None:
    service, client = served
    headers = bearer(service, *ALL)
    image_id = client.post("/v1/inspections", files=[("images", ("a.png", picture()))], headers=headers).json()[
        "inspections"
    ][0]["id"]
    client.put(f"/v1/inspections/{image_id}/review", json={"label": "reject"}, headers=headers)
    token = client.post("/v1/tokens", json={"name": "new", "scopes": ["read"]}, headers=headers).json()["token"]
    client.delete(f"/v1/tokens/{token.split('_')[1]}", headers=headers)
    found = client.get("/v1/audit", headers=headers).json()["audit"]
    assert [note["action"] for note in found[:3]] == ["end_token", "make_token", "review"]
    assert found[2]["subject"] == image_id
    assert token.split("_", 2)[2] not in json.dumps(found)


def test_posted_images_need_a_scope_before_they_are_read(served: tuple[Service, TestClient]) -> None:
    _, client = served
    assert post(client, ("a.png", picture())).status_code == 401
