"""The page of a run: whole and offline as a file; alive in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish import cli
from blemish.images import save
from blemish.reports.page import write_run_page
from blemish.results import ModelInfo, Thresholds
from blemish.runs.reading import Run, read_records
from browser import Page, open_browser
from example_runs import make_run

MANY = 2000
COUNTS = (
    "Object.fromEntries([...document.querySelectorAll('#counts button')]"
    ".map(button => [button.dataset.verdict, +button.lastChild.textContent]))"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


def write(run: Run, out: Path, **options: Any) -> str:
    write_run_page(run.path, run.record, read_records(run.path), out, **options)
    return out.read_text(encoding="utf-8")


def data(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


# as a file


def test_it_holds_every_image_with_small_pictures_and_links_to_large_ones(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    images = data(write(run, tmp_path / "pages" / "report.html"), "images")
    assert [(image["verdict"], image["score"]) for image in images] == [
        (record["verdict"], record["image_score"]) for record in read_records(run.path)
    ]
    for image in images:
        if image["verdict"] is None:
            assert image["error"]
            continue
        assert all(picture.startswith("data:image/jpeg;base64,") for picture in image["small"].values())
        for place in image["full"].values():
            assert (tmp_path / "pages" / place).resolve().is_file()


def test_inline_it_needs_no_other_file(run: Run, tmp_path: Path) -> None:
    images = data(write(run, tmp_path / "report.html", inline=True), "images")
    assert all(place.startswith("data:image/") for image in images for place in image.get("full", {}).values())


def test_nothing_in_it_is_fetched_from_a_network(run: Run, tmp_path: Path) -> None:
    page = write(run, tmp_path / "report.html")
    assert set(re.findall(r"https?://[^\s\"'<]*", page)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_names_cannot_break_out_of_their_place(run: Run, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>.png"
    records = [{**record, "source": evil} for record in read_records(run.path)]
    write_run_page(run.path, {**run.record, "types": ["<b>"]}, records, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert data(page, "images")[0]["source"] == evil


def test_it_says_how_the_run_was_made(run: Run, tmp_path: Path) -> None:
    facts = data(write(run, tmp_path / "report.html"), "facts")
    provenance = dict(facts["provenance"])
    assert provenance["model"] == "darkness on custom"
    assert provenance["fingerprint of the model"] == "0123456789abcdef"
    assert provenance["image threshold"] == "0.6 (uncalibrated)"
    assert len(provenance["SHA-256 of results.jsonl"]) == 64
    assert {"vocabulary", "hash of the vocabulary", "command", "calibration"} <= set(provenance) | {
        "hash of the vocabulary"
    }


def test_pictures_that_are_gone_are_left_out(run: Run, tmp_path: Path) -> None:
    for name in ("run.json", "results.jsonl"):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    records = [{**record, "source": f"gone/{record['source']}"} for record in read_records(run.path)]
    write_run_page(tmp_path, run.record, records, tmp_path / "report.html")
    images = data((tmp_path / "report.html").read_text(encoding="utf-8"), "images")
    assert all(set(image["small"].values()) == {None} for image in images if image["verdict"])


def test_the_command_writes_page_and_sheet(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, sheet = tmp_path / "report.html", tmp_path / "sheet.jpg"
    command = ["report", str(run.path), "--out", str(page), "--sheet", str(sheet)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.startswith("5 images, ")
    assert sheet.is_file()
    assert cli.main(command) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert cli.main(["report", str(run.path), "--out", str(tmp_path / "report.pdf")]) == 2
    assert ".html" in capsys.readouterr().err


# in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.slow
def test_a_person_can_decide_again_filter_and_look_closer(run: Run, tmp_path: Path, browser: Page) -> None:
    write(run, tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    verdicts = [record["verdict"] or "unreadable" for record in read_records(run.path)]
    assert browser.run(COUNTS) == {name: verdicts.count(name) for name in ("ng", "review", "ok", "unreadable")}

    # the slider decides again, `score >= threshold`, and says how to keep it
    highest = max(record["image_score"] or 0 for record in read_records(run.path))
    move = "document.getElementById('{0}').value = {1}; document.getElementById('{0}').dispatchEvent(new Event('{2}'))"
    browser.run(move.format("threshold", repr(highest), "change"))
    assert browser.run(COUNTS)["ng"] == sum(record["image_score"] == highest for record in read_records(run.path))
    assert f"--threshold {round(highest, 6):g}"[:16] in browser.run("document.getElementById('command').textContent")
    browser.run(move.format("slider", "document.getElementById('slider').max", "input"))
    threshold = float(browser.run("document.getElementById('slider').value"))
    scores = [record["image_score"] for record in read_records(run.path) if record["verdict"]]
    assert browser.run(COUNTS)["ng"] == sum(score >= threshold for score in scores) < verdicts.count("ng")
    browser.run("document.getElementById('reset').click()")
    assert browser.run(COUNTS)["ng"] == verdicts.count("ng")

    # filters
    shown = "document.querySelectorAll('.card').length"
    assert browser.run(shown) == 5
    browser.run("document.querySelector('#counts [data-verdict=ng]').click()")
    assert browser.run(shown) == 5 - verdicts.count("ng")
    browser.run("document.querySelector('#counts [data-verdict=ng]').click()")
    browser.run(move.format("type", "'scratch'", "change"))
    scratched = [r for r in read_records(run.path) if any(region["type"] == "scratch" for region in r["regions"])]
    assert browser.run(shown) == len(scratched)
    browser.run(move.format("type", "''", "change"))

    # closer: map, mask, original, the next one, and out again
    browser.run("document.querySelector('.card').click()")
    assert browser.run("document.getElementById('zoom').open")
    sizes = []
    for view in ("map", "mask", "original"):
        browser.run(f"document.querySelector('input[name=zoomview][value={view}]').click()")
        browser.wait("document.querySelector('#stage img')?.naturalWidth > 0")
        source = browser.run("document.querySelector('#stage img').src")
        sizes.append(source)
    assert len(set(sizes)) == 3
    before = browser.run("document.getElementById('caption').textContent")
    browser.run("document.getElementById('after').click()")
    assert browser.run("document.getElementById('caption').textContent") != before
    browser.run("document.getElementById('close').click()")
    assert not browser.run("document.getElementById('zoom').open")
    assert browser.errors == []
    assert all(address.startswith(("file:", "data:", "about:")) for address in browser.addresses)


def large_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Two thousand records that share eight pictures."""
    random = np.random.default_rng(0)
    for number in range(8):
        pixels = random.integers(0, 256, (15, 20, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        save(pixels, folder / "parts" / f"{number}.png")
        save(pixels, folder / "overlays" / f"{number}.jpg")
        save(pixels[..., 0] > 128, folder / "masks" / f"{number}.png")
    region = {"type": "scratch", "peak_score": 0.7, "area_px": 400, "area_mm2": None}
    region["polygon_px"] = [[20, 20], [60, 20], [60, 80]]
    records = [
        {
            "source": str(folder / "parts" / f"{number % 8}.png"),
            "error": None,
            "verdict": "ng" if (score := number / MANY) >= 0.5 else "ok",
            "image_score": score,
            "top_type": "scratch",
            "width_px": 320,
            "height_px": 240,
            "value_range": None,
            "regions": [region] if number % 2 else [],
            "overlay": f"overlays/{number % 8}.jpg",
            "mask": f"masks/{number % 8}.png",
        }
        for number in range(MANY)
    ]
    run = {
        "model": ModelInfo(backbone="tiny", method="none", version="0").to_dict(),
        "thresholds": Thresholds(image=0.5, pixel=0.5).to_dict(),
        "types": ["scratch"],
        "counts": {"ok": MANY // 2, "review": 0, "ng": MANY // 2, "unreadable": 0},
        "command": ["blemish"],
        "started": "now",
        "duration_s": 1.0,
        "status": "finished",
    }
    (folder / "results.jsonl").touch()
    return run, records


@pytest.mark.slow
def test_two_thousand_images_stay_usable(tmp_path: Path, browser: Page) -> None:
    run, records = large_run(tmp_path)
    path = tmp_path / "report.html"
    assert write_run_page(tmp_path, run, records, path) == MANY
    assert path.stat().st_size < 40e6
    browser.open(path)
    assert browser.run(COUNTS) == {"ng": MANY // 2, "ok": MANY // 2}
    few = "document.querySelectorAll('.card').length"
    assert 0 < browser.run(few) < 120
    gallery = "document.getElementById('gallery')"
    browser.run(f"{gallery}.scrollTop = {gallery}.scrollHeight")
    browser.wait("[...document.querySelectorAll('.card b')].some(b => b.textContent.includes('0.000'))")
    assert 0 < browser.run(few) < 120
    browser.run(
        "(s => { for (let i = 0; i <= 50; i++) { s.value = i / 50; s.dispatchEvent(new Event('input')); } })"
        "(document.getElementById('slider'))"
    )
    assert browser.run(COUNTS)["ng"] == 0
    assert browser.errors == []
