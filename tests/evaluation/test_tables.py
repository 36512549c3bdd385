"""What stands beside our numbers, and how they are written: published rows, suites, tables, charts, Markdown."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scenes import anomalous_only, candidate, data_set

from blemish.data import entry
from blemish.errors import UsageError
from blemish.evaluation import (
    EvaluationSettings,
    Table,
    grouped,
    load_suite,
    open_session,
    overview,
    published,
    suite_names,
)
from blemish.evaluation.candidates import Choice
from blemish.evaluation.charts import histogram, lines
from blemish.evaluation.finding import find_data
from blemish.evaluation.markdown import public
from blemish.evaluation.outcome import evaluate_candidate
from blemish.evaluation.ranks import curves_of, image_steps
from blemish.evaluation.tables import cell, parts_of, published_table
from blemish.metrics import METRICS, Value

QUICK = EvaluationSettings(rounds=0)


def test_published_rows_have_a_source_and_a_quality_and_the_most_trusted_come_first() -> None:
    rows = published("faprompt", "mvtec")
    assert {row.method for row in rows} == {"FAPrompt"}
    assert rows[0].values["image_auroc"] == 91.9
    assert all(row.source and row.quality and set(row.values) <= set(METRICS) for row in rows)
    qualities = [row.quality for row in published("AnomalyCLIP", "mvtec")]
    assert qualities == sorted(qualities, key=("paper", "author-repo", "figure", "third-party").index)
    assert published("coop", "mvtec")[0].method == "CoOp"
    assert published("ensemble", "mvtec") == ()
    assert "not stated" in str(published_table(published("faprompt", "mpdd")).rows)
    assert published_table(rows).title == published_table(rows, measured=15).title == "published"
    assert "means over 15 products, of which 1 was measured here" in published_table(rows, measured=1).title


def test_the_published_file_is_small() -> None:
    assert len((resources.files("blemish.evaluation") / "published.toml").read_bytes()) < 300_000


@pytest.mark.parametrize("name", ["dapo", "faprompt"])
def test_shipped_suites_name_data_sets_that_are_known(name: str) -> None:
    assert name in suite_names()
    suite = load_suite(name)
    assert suite.method == name
    for place in [*suite.train.values(), *(test.data for test in suite.tests)]:
        assert entry(place).name == place
    pairs = {(test.data, test.trained_on) for test in suite.tests}
    assert all(data != trained_on for data, trained_on in pairs)
    if name == "faprompt":
        assert len({data for data, _ in pairs}) == 19
        assert {("sdd", "mvtec"), ("sdd", "visa")} <= pairs  # the paper's text, and its script


def test_a_cell_has_an_interval_or_says_that_nothing_is_defined() -> None:
    assert cell(Value(value=0.8284, interval=(0.799, 0.8551))) == "82.8 (79.9–85.5)"
    assert cell(Value(value=1.0)) == "100.0"
    assert cell(Value(value=None, reason="nothing there")) == "not defined"


def test_tables_give_the_reason_of_what_is_not_defined_once(tmp_path: Path) -> None:
    found, _ = evaluate_candidate(
        candidate(), anomalous_only(data_set(products=("a", "b"))), out=tmp_path, settings=QUICK
    )
    table = overview(grouped([found]))
    assert "squares (2 products)" in table.rows[0]
    assert sum("AUPIMO" in note for note in table.notes) == 1
    assert "nothing to average" not in " ".join(table.notes)
    titles = [part.title for part in parts_of(found)]
    assert titles[0] == "products"
    assert titles[1].startswith("defect types")
    assert titles[2].startswith("sizes")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "blemish evaluate --data-root /home/me/data --out ../here",
            "blemish evaluate --data-root …/data --out ../here",
        ),
        ("--prompts-for mvtec=/srv/a/epoch-07", "--prompts-for mvtec=…/epoch-07"),
        ("docs/metrics.md and 34 / 17, and/or", "docs/metrics.md and 34 / 17, and/or"),
        ("/data/x.png: is damaged", "…/x.png: is damaged"),
    ],
)
def test_public_text_holds_no_path_of_a_machine(text: str, shown: str) -> None:
    assert public(text) == shown


def test_curves_begin_and_end_where_they_must() -> None:
    curves = curves_of(image_steps([0.1, 0.4, 0.35, 0.8], [False, False, True, True]), limit=0.3)
    assert curves["roc"][0] == (0.0, 0.0)
    assert curves["roc"][-1] == (1.0, 1.0)
    assert curves["pr"][0] == (0.5, 1.0)
    assert curves["pr"][-1] == (1.0, 0.5)
    assert "pro" not in curves
    assert curves_of(image_steps([0.1, 0.4], [True, True]), limit=0.3) == {}


class Tags(HTMLParser):
    """Notes every tag that is not closed in order."""

    VOID = ("meta", "img", "br", "line", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_charts_escape_names_and_close_their_tags() -> None:
    drawn = lines("<b>", {"a & b": [(0, 0), (1, 1)]}, x_label="x", y_label="y")
    drawn += histogram("scores", {"one": [0.5], "other": [0.5, 0.5]}, x_label="score")
    assert "<b>" not in drawn
    assert "a &amp; b" in drawn
    parser = Tags()
    parser.feed(re.sub(r"<line [^>]*/>", "", drawn))
    assert parser.open == []


def test_a_page_holds_published_rows_confusion_and_pictures_and_needs_no_network(tmp_path: Path) -> None:
    session = open_session(tmp_path / "out", settings=replace(QUICK, typed=True), command="blemish evaluate <it>")
    session.load = lambda choice, **_: candidate(prompts=str(choice.prompts))
    data = replace(data_set(), name="kvasir")
    session.run([Choice("none", "faprompt", Path(name)) for name in ("one", "two")], [data])
    page = session.write_page(first=[Table("first of all", ("a",), (("b",),))]).read_text(encoding="utf-8")
    parser = Tags()
    parser.feed(re.sub(r"<line [^>]*/>", "", page))
    assert parser.open == []
    assert "blemish evaluate &lt;it&gt;" in page
    assert "EDMPrompt README" in page
    assert "80.7" in page
    assert "which type images were given" in page
    assert page.count("data:image/jpeg") == 2 * 5 * 4
    assert "http" not in page
    assert "first of all" in page
    charts = sorted((tmp_path / "out").glob("confusion-kvasir-faprompt-*.svg"))
    assert len(charts) == 2
    root = ElementTree.fromstring(charts[0].read_text(encoding="utf-8"))
    numbers = [int(text) for node in root.iter() if (text := node.text or "").isdigit()]
    assert len(numbers) == 4
    assert sum(numbers) == 8


def test_an_output_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="holds no evaluation"):
        open_session(tmp_path, settings=QUICK, command="")
    with pytest.raises(UsageError, match="is a file"):
        open_session(tmp_path / "mine.txt", settings=QUICK, command="")


def test_data_are_found_by_name_by_path_and_below_the_root(tmp_path: Path) -> None:
    assert find_data("synthetic:4@5").variant
    with pytest.raises(UsageError, match="unknown split"):
        find_data("synthetic:4@5", part="tset")
    with pytest.raises(UsageError, match="neither a path nor a data set"):
        find_data("nowhere", root=tmp_path)
