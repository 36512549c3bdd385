"""Images in, records out, by HTTP."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from blemish.serve.service import Service
from serve.conftest import picture, post

Served = tuple[Service, TestClient]


def test_each_image_gets_the_record_of_results_jsonl(served: Served) -> None:
    _, client = served
    answer = post(client, ("part.png", picture(dark=True)), ("good.png", picture()))
    assert answer.status_code == 200
    bad, good = answer.json()["inspections"]
    assert (bad["verdict"], bad["source"], bad["top_type"], len(bad["regions"])) == ("ng", "part.png", "scratch", 1)
    assert (good["verdict"], good["regions"]) == ("ok", [])
    assert bad["schema"] == "blemish.inspection/1"
    kept = client.get(f"/v1/inspections/{bad['id']}").json()
    assert kept["record"]["regions"] == bad["regions"]
    assert kept["state"] == "done"


def test_an_unreadable_image_hurts_no_other_one(served: Served) -> None:
    _, client = served
    answer = post(client, ("a.png", picture()), ("b.png", b"no image"), ("c.png", picture(dark=True)))
    assert [record["verdict"] for record in answer.json()["inspections"]] == ["ok", None, "ng"]
    (problem,) = answer.json()["errors"]
    assert (problem["index"], problem["name"], problem["code"]) == (1, "b.png", "image")
    assert "is not a JPEG" in problem["message"]


def test_a_request_with_no_readable_image_is_an_error_that_names_each(served: Served) -> None:
    _, client = served
    answer = post(client, ("b.png", b"no image"))
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "image_error"
    assert error["message"].startswith("b.png: is not a JPEG")
    assert [image["index"] for image in error["images"]] == [0]


def test_names_and_thresholds_are_those_of_the_request(served: Served) -> None:
    _, client = served
    image = ("a.png", picture(dark=True))
    one = post(client, image, defects="dent, crack", threshold=0.99).json()["inspections"][0]
    other = post(client, image).json()["inspections"][0]
    assert (one["top_type"], one["verdict"], one["thresholds"]["image"]) == ("dent", "review", 0.99)
    assert (other["top_type"], other["verdict"]) == ("scratch", "ng")
    assert one["image_score"] == other["image_score"]


def test_a_vocabulary_comes_as_the_text_of_its_file(served: Served) -> None:
    _, client = served
    text = '[types.gash]\nsynonyms = ["slash"]\n[types.blot]\n'
    record = post(client, ("a.png", picture(dark=True)), vocabulary=text).json()["inspections"][0]
    assert record["top_type"] == "gash"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"profile": "defualt"}, "unknown profile 'defualt'; did you mean 'default'?"),
        ({"threshold": 2}, "threshold: Input should be less than or equal to 1"),
        ({"source": "../x"}, "source: String should match pattern"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_one_form(served: Served, form: dict[str, Any], said: str) -> None:
    _, client = served
    answer = post(client, ("a.png", picture()), **form)
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]


def test_a_vocabulary_that_is_none_is_the_requests_fault(served: Served) -> None:
    _, client = served
    answer = post(client, ("a.png", picture()), vocabulary="types = 3")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "setup_error")


def test_a_request_that_is_sent_again_gets_the_first_ones_records(served: Served) -> None:
    _, client = served
    ids = []
    for _ in range(2):
        answer = client.post(
            "/v1/inspections", files=[("images", ("a.png", picture()))], headers={"Idempotency-Key": "same"}
        )
        ids.append(answer.json()["inspections"][0]["id"])
    assert ids[0] == ids[1]


def test_images_of_more_than_8_bits_do_not_share_a_range_with_strangers(served: Served) -> None:
    _, client = served

    def deep(highest: int) -> bytes:
        pixels = np.full((64, 64), highest, np.uint16)
        pixels[10:30, 10:30] = highest // 4
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, "PNG")
        return held.getvalue()

    alone = post(client, ("a.png", deep(900))).json()["inspections"][0]
    first, _ = post(client, ("a.png", deep(900)), ("b.png", deep(60_000))).json()["inspections"]
    assert first["value_range"] == alone["value_range"]
    assert first["image_score"] == alone["image_score"]


def test_pictures_are_drawn_when_they_are_asked_for(served: Served) -> None:
    _, client = served
    data = picture(dark=True)
    image_id = post(client, ("part.png", data)).json()["inspections"][0]["id"]
    for name, mode in {"overlay": "RGB", "image": "RGB", "map": "RGBA", "mask": "1"}.items():
        answer = client.get(f"/v1/inspections/{image_id}/{name}")
        drawn = Image.open(io.BytesIO(answer.content))
        assert (drawn.size, drawn.mode) == ((160, 120), mode)
    original = client.get(f"/v1/inspections/{image_id}/original")
    assert original.content == data
    assert original.headers["content-disposition"].startswith("attachment")
    with np.load(io.BytesIO(client.get(f"/v1/inspections/{image_id}/maps.npz").content)) as maps:
        assert maps["anomaly_map"].shape == (8, 8)
    small = Image.open(io.BytesIO(client.get(f"/v1/inspections/{image_id}/image?most_px=80").content))
    assert small.size == (80, 60)


def test_pages_go_through_all_that_the_filters_leave(served: Served) -> None:
    _, client = served
    for number in range(5):
        post(client, (f"{number}.png", picture(dark=number % 2 == 0)), source="paged")
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/v1/inspections", params={"source": "paged", "limit": 2, **cursor}).json()
        found += [each["name"] for each in page["inspections"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == ["4.png", "3.png", "2.png", "1.png", "0.png"]
    two = client.get("/v1/inspections", params={"source": "paged", "verdict": ["ng", "review"]}).json()
    assert [each["name"] for each in two["inspections"]] == ["4.png", "2.png", "0.png"]
    assert client.get("/v1/count", params={"source": "paged", "verdict": "ok"}).json() == {"count": 2, "more": False}


def test_a_review_counts_and_is_remembered_with_its_author(served: Served) -> None:
    _, client = served
    image_id = post(client, ("part.png", picture(dark=True)), source="reviewed").json()["inspections"][0]["id"]
    for label in ("reject", "false_alarm"):
        said = {"label": label, "note": "glare <b>", "reviewer": "Ada"}
        assert client.put(f"/v1/inspections/{image_id}/review", json=said).status_code == 200
    details = client.get(f"/v1/inspections/{image_id}").json()
    assert [each["label"] for each in details["reviews"]] == ["false_alarm", "reject"]
    assert (details["review"], details["reviews"][0]["reviewer"]) == ("false_alarm", "Ada")
    listed = client.get("/v1/inspections", params={"source": "reviewed", "review": "false_alarm"}).json()
    assert [each["id"] for each in listed["inspections"]] == [image_id]
    assert client.put(f"/v1/inspections/{image_id}/review", json={"label": "other_type"}).status_code == 422


def test_statistics_and_preview_count_what_was_inspected(served: Served) -> None:
    _, client = served
    post(client, *[(f"{number}.png", picture(dark=number < 3)) for number in range(4)], source="counted")
    found = client.get("/v1/statistics", params={"source": "counted"}).json()
    assert found["verdicts"] == {"ok": 1, "review": 0, "ng": 3}
    assert found["types"] == [{"type": "scratch", "images": 3}]
    assert sum(found["histogram"]["ng"]) == 3
    assert [part["ng_rate"] for part in found["sources"]] == [0.75]
    then = client.get("/v1/preview", params={"source": "counted", "threshold": 0.99, "review": 0.5}).json()
    assert (then["then"], then["changed"]) == ({"ok": 1, "review": 3, "ng": 0}, 3)


@pytest.mark.parametrize("format_name", ["coco", "csv", "label-studio", "masks", "yolo-seg"])
def test_a_selection_is_exported(served: Served, format_name: str) -> None:
    _, client = served
    post(client, ("part.png", picture(dark=True)), ("good.png", picture()), source="exported")
    answer = client.get(f"/v1/exports/{format_name}", params={"source": "exported", "images": format_name == "coco"})
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        if format_name == "coco":
            coco = json.loads(archive.read("coco.json"))
            assert {each["file_name"] for each in coco["images"]} == {
                name.removeprefix("images/") for name in names if name.startswith("images/")
            }
            assert len(coco["annotations"]) == 1
    assert len(names) > 1


def test_what_is_not_there_is_not_found(served: Served) -> None:
    _, client = served
    for path in ("/v1/inspections/nothing", "/v1/jobs/nothing", "/nothing", "/page/../serve.py"):
        assert client.get(path).status_code == 404
    assert client.get("/v1/exports/cooc").json()["error"]["code"] == "unknown_name"
