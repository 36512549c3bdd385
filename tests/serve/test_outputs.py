"""What a line is told: MQTT and webhooks, at least once, over outages; Label Studio's backend."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from blemish.errors import UsageError
from blemish.serve.output.webhooks import SIGNATURE, TIMESTAMP, signature_of
from serve.conftest import picture, post, running, wait_for
from serve.servers import Broker, Reader


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted; refuses the first `refuse` requests."""

    got: ClassVar[list[tuple[dict[str, str], bytes]]]
    refuse: ClassVar[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = type(self).refuse > 0
        type(self).refuse -= refused
        if not refused:
            type(self).got.append((dict(self.headers), body))
        self.send_response(500 if refused else 204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_webhook_gets_signed_results_until_it_takes_them(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("the key\n")

    class Mine(Receiver):
        got: ClassVar[list[tuple[dict[str, str], bytes]]] = []
        refuse = 1

    with listening(Mine) as address:
        hook = {"name": "mes", "url": f"{address}/results", "secret_file": str(tmp_path / "key")}
        with running(tmp_path, webhooks=[hook]) as (service, client):
            bad = post(client, ("bad.png", picture(dark=True))).json()["inspections"][0]
            post(client, ("good.png", picture()))
            wait_for(lambda: Mine.got)
            wait_for(lambda: service.senders.unsent() == 0)
    ((headers, body),) = Mine.got
    message = json.loads(body)
    assert (message["id"], message["verdict"], message["schema"]) == (bad["id"], "ng", "blemish.message/1")
    assert message["finished"].endswith("Z")
    assert headers[SIGNATURE] == signature_of("the key", headers[TIMESTAMP], body)


def test_a_key_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    hook = {"name": "mes", "url": "http://localhost/", "secret_file": str(tmp_path / "key")}
    with (
        pytest.raises(UsageError, match=r"key: the key of the webhook 'mes' cannot be read"),
        running(tmp_path, webhooks=[hook]),
    ):
        pass


@pytest.mark.slow
def test_a_broker_that_falls_gets_all_messages_in_the_end(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    reader = Reader(broker.port)
    mqtt = {"host": "127.0.0.1", "port": broker.port, "watchdog_s": 0.2}
    camera = {"name": "cam", "kind": "simulated", "trigger": "mqtt", "interval_s": 0.1}
    try:
        with running(tmp_path, mqtt=mqtt, sources=[camera]) as (service, client):
            wait_for(lambda: reader.of("blemish/availability") == ["online"])
            sent = [post(client, ("a.png", picture()), source="line 1").json()["inspections"][0]["id"]]
            wait_for(lambda: len(reader.of("blemish/inspections/line 1")) == 1)
            broker.kill()
            for number in range(5):
                answer = post(client, (f"{number}.png", picture(dark=True)), source="line 1")
                sent.append(answer.json()["inspections"][0]["id"])
            assert service.senders.unsent() >= 5
            broker.start()
            wait_for(lambda: service.senders.unsent() == 0)
            wait_for(
                lambda: {json.loads(each)["id"] for each in reader.of("blemish/inspections/line 1")} >= set(sent[1:])
            )
            wait_for(lambda: reader.of("blemish/watchdog"))
            reader.publish("blemish/trigger/cam")
            wait_for(lambda: reader.of("blemish/inspections/cam"))
            state = [json.loads(each) for each in reader.of("blemish/state/line 1")]
            assert state[-1]["id"] == sent[-1]
        wait_for(lambda: reader.of("blemish/availability")[-1] == "offline")
    finally:
        reader.close()
        broker.kill()


def test_label_studio_gets_predictions_and_an_error_for_each_image_that_has_none(tmp_path: Path) -> None:
    class Images(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ok = self.path == "/data/part.png" and self.headers["Authorization"] == "Token ls"
            self.send_response(200 if ok else 404)
            self.end_headers()
            if ok:
                self.wfile.write(picture(dark=True))

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "ls").write_text("ls")
    with listening(Images) as address:
        config = {"url": address, "token_file": str(tmp_path / "ls")}
        with running(tmp_path, label_studio=config) as (_, client):
            assert client.get("/label-studio/health").json()["status"] == "UP"
            assert "darkness" in client.post("/label-studio/setup", json={}).json()["model_version"]
            inline = "data:image/png;base64," + base64.b64encode(picture()).decode()
            known = post(client, ("a.png", picture(dark=True))).json()["inspections"][0]["id"]
            images = [
                *("/data/part.png", inline, f"blemish:{known}"),
                *("http://127.0.0.1:1/x.png", f"{address}/../x", f"{address}/data/none.png", "data:;base64,????"),
            ]
            tasks = [{"id": number, "data": {"image": image}} for number, image in enumerate(images)]
            found = client.post("/label-studio/predict", json={"tasks": [*tasks, {"data": 3}]}).json()["results"]
    whole = found[:3]
    assert [each["result"][0]["value"]["choices"] for each in whole] == [["ng"], ["ok"], ["ng"]]
    assert whole[0]["result"][1]["value"]["polygonlabels"] == ["scratch"]
    assert all(each["error"] and not each["result"] for each in found[3:])
    assert "does not lie below" in found[3]["error"]


def test_times_are_utc_whatever_the_machine_thinks(monkeypatch: pytest.MonkeyPatch) -> None:
    from blemish.serve.clock import iso, milliseconds

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert iso(0) == "1970-01-01T00:00:00.000Z"
        assert milliseconds("1970-01-01T00:00:01") == 1000
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
