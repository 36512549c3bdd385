"""The OpenAPI document: what schemathesis thinks of for every route is answered, and never with 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings

from serve.conftest import running

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = 20  # of each route


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "inbox").mkdir()
    roots = [{"name": "inbox", "path": str(folder / "inbox")}]
    with running(folder, folders=roots, serve={"requests_a_minute": 1_000_000}) as (_, opened):
        yield opened


def test_no_request_is_answered_with_500(client: TestClient) -> None:
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", client.app, headers={"Host": "testserver"})
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30
    for operation in operations:
        if operation.label == "POST /v1/tokens":  # from the first one on, nothing would be answered without it
            continue

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(headers={"Host": "testserver"})
            assert answer.status_code != 500, case.as_curl_command()
            if 400 <= answer.status_code < 500:
                assert set(answer.json()["error"]) >= {"code", "message"}, case.as_curl_command()

        ask()
