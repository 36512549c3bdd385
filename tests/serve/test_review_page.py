"""The review page in a real browser, by the keyboard alone: log in, review, see counts change, preview, export."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blemish.serve.client import Client
from blemish.serve.server import run_service
from blemish.serve.service import Service
from browser import Page, open_browser
from serve import plugin
from serve.conftest import line_of, picture, wait_for

AXE = Path(__file__).parent / "axe-core" / "axe.min.js"
NASTY = "<img src=x onerror=alert(1)>.png"
PARTS = [("scratched.png", (20, 20, 70, 60)), ("stained.png", (100, 20, 150, 60)), ("both.png", (10, 10, 150, 40))]

pytestmark = pytest.mark.slow


@dataclass
class Running:
    address: str
    token: str
    service: Service


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    environment = plugin.install(folder / "plugin")
    found: list[tuple[str, Service]] = []
    stop = threading.Event()
    line = line_of(folder / "data", serve={"port": 0})
    thread = threading.Thread(
        target=run_service,
        args=(line,),
        kwargs={
            "started": lambda address, service: found.append((address, service)),
            "environment": environment,
            "stop": stop,
        },
    )
    thread.start()
    try:
        wait_for(lambda: found)
        address, service = found[0]
        token = service.access.create("station 1", ["read", "inspect", "review", "admin"])
        with Client(address, token=token) as client:
            wait_for(client.is_ready)
            for number in range(2):
                for name, box in PARTS:
                    client.inspect(picture(dark=box), name=f"{number}-{name}", source="line 1")
                client.inspect(picture(), name=f"{number}-good.png", source="line 1")
            client.inspect(picture(dark=True), name=NASTY, source="line 2")
        yield Running(address, token, service)
    finally:
        stop.set()
        thread.join(60)


@pytest.fixture
def page(served: Running, tmp_path: Path) -> Iterator[Page]:
    with open_browser(tmp_path / "profile") as opened:
        opened.visit(f"{served.address}page/")
        opened.wait("document.getElementById('login').open")
        opened.wait("document.activeElement.id === 'token'")
        opened.write(served.token)
        opened.press("Enter")
        opened.wait("document.querySelectorAll('.card').length > 0")
        opened.errors.clear()  # a page that nobody has logged in on says 401 in the console
        yield opened
        assert opened.errors == []


def counts(page: Page) -> dict[str, int]:
    found: dict[str, int] = page.run(
        "Object.fromEntries([...document.querySelectorAll('.counts [data-verdict]')]"
        ".map(item => [item.dataset.verdict, +item.querySelector('b').textContent]))"
    )
    return found


EXPORT = "[...document.querySelectorAll('main button')].find(button => button.textContent === 'Export')"


def open_search(page: Page) -> None:
    """The search page with all nine parts; the live page has cards, too."""
    page.press("3")
    page.wait(f"{EXPORT} !== undefined && document.querySelectorAll('main .card').length === 9")


def serious_faults(page: Page) -> list[Any]:
    """What axe-core calls serious or critical on what is shown."""
    page.run(AXE.read_text(encoding="utf-8") + "; true")
    found = page.run(
        "axe.run(document, {resultTypes: ['violations']}).then(result => JSON.stringify(result.violations))"
    )
    return [
        (fault["id"], [node["html"][:200] for node in fault["nodes"]])
        for fault in json.loads(found)
        if fault["impact"] in ("serious", "critical")
    ]


def test_five_parts_are_reviewed_by_the_keyboard(page: Page, served: Running) -> None:
    page.wait("document.querySelectorAll('.counts [data-verdict]').length === 3")
    assert counts(page) == {"ok": 2, "review": 0, "ng": 7}
    page.press("2")
    page.wait("document.querySelectorAll('.stage img').length === 2")
    assert page.run("document.querySelector('.side [role=status]').textContent") == "1 of 7"
    for left, keys in enumerate((["a"], ["r"], ["f"], ["t", "ArrowDown", "Enter"], ["n"]), start=1):
        page.press(*keys)
        if keys == ["n"]:
            page.write("glare </textarea><script>")
            page.press("Escape", "r")
        page.wait(f"document.querySelector('.side [role=status]').textContent === '1 of {7 - left}'")
    with Client(served.address, token=served.token) as client:
        reviewed = [each for each in client.inspections(verdict="ng") if each["review"]]
        assert sorted(each["review"] for each in reviewed) == [
            "accept",
            "false_alarm",
            "other_type",
            "reject",
            "reject",
        ]
        notes = [client.get(each["id"])["reviews"][0] for each in reviewed]
        assert "glare </textarea><script>" in [note["note"] for note in notes]
        assert {note["reviewer"] for note in notes} == {"station 1"}


def test_what_is_shown_follows_the_keys(page: Page) -> None:
    page.press("2")
    page.wait("document.querySelectorAll('.stage polygon').length > 0")
    page.press("m")
    assert page.run("document.querySelector('.stage img:nth-of-type(2)').hidden")
    page.press("+")
    assert page.run("document.querySelector('.layers').style.transform").endswith("scale(1.5)")
    page.press("0")
    assert page.run("document.querySelector('.layers').style.transform").endswith("scale(1)")
    page.press("?")
    assert page.run("document.getElementById('help').open")


def test_a_threshold_is_tried_on_what_was_inspected(page: Page) -> None:
    page.press("4")
    page.wait("document.getElementById('changed') !== null")
    assert page.run("document.getElementById('changed').textContent") == "0 verdicts would be other ones."
    page.run("document.querySelector('input[type=range]').focus()")
    page.press(*["ArrowRight"] * 76)  # from 0.6 to 0.98
    page.wait("document.getElementById('changed').textContent.startsWith('7 ')")
    assert page.run("document.querySelectorAll('.plots figure').length") == 6


def test_a_selection_is_exported(page: Page, tmp_path: Path) -> None:
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
    open_search(page)
    page.run(f"{EXPORT}.focus()")
    page.press("Enter")
    wait_for(lambda: list((tmp_path / "saved").glob("*.zip")))
    with zipfile.ZipFile(tmp_path / "saved" / "blemish-coco.zip") as archive:
        assert len(json.loads(archive.read("coco.json"))["images"]) == 9


def test_names_from_outside_are_text_and_nothing_else(page: Page) -> None:
    open_search(page)
    assert page.run("document.body.textContent").count(NASTY) == 1
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0


def test_a_profile_is_calibrated_from_reviews_and_rolled_back(page: Page, served: Running) -> None:
    page.press("5")
    press = "[...document.querySelectorAll('main button')].find(button => button.textContent.includes('{}')).focus()"
    page.wait(
        "document.querySelectorAll('details').length > 0 && "
        + press.format("Calibrate").removesuffix(".focus()")
        + " !== undefined"
    )
    page.run(press.format("Calibrate"))
    page.press("Enter")
    page.wait("document.body.textContent.includes('good and')")
    page.run(press.format("Store and use"))
    page.press("Enter")
    page.wait("document.body.textContent.includes('calibrated from reviews')")
    assert served.service.profiles.get("default").version == 2
    page.run("document.querySelectorAll('main details').forEach(each => { each.open = true; })")
    page.run(press.format("Put in force"))
    page.press("Enter")
    wait_for(lambda: served.service.profiles.get("default").version == 1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_fault_of_accessibility(page: Page, served: Running, scheme: str) -> None:
    for size in ((1280, 900), (390, 800)):
        for view in ("live", "queue", "search", "statistics", "profiles"):
            page.visit(f"{served.address}page/#/{view}", size=size, scheme=scheme)
            page.wait(
                "document.querySelector('main h1') !== null && document.getElementById('status').textContent !== ''"
            )
            page.wait("document.querySelectorAll('main .card, main .stage img, main figure, main details').length > 0")
            assert serious_faults(page) == [], (view, size, scheme)


def test_the_page_speaks_german(page: Page) -> None:
    page.run("document.getElementById('language').value = 'de'")
    page.run("document.getElementById('language').dispatchEvent(new Event('change'))")
    page.wait("document.querySelector('main h1').textContent === 'Die letzten Teile'")
    assert page.run("document.documentElement.lang") == "de"
    same = page.run("import('/page/text.js').then(module => module.t('other_type'))")
    assert same == "Anderer Fehler"


def test_nothing_comes_from_elsewhere(page: Page, served: Running) -> None:
    page.press("4")
    page.wait("document.querySelectorAll('.plots figure').length === 6")
    outside = [each for each in page.addresses if not each.startswith((served.address, "blob:", "about:", "data:"))]
    assert outside == []
