"""Of a very large run the page shows the highest scores and others by lot; a run in shards has a page as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest

from blemish.reports import report as reports
from blemish.reports.report import report
from blemish.reports.sample import sample_records
from blemish.runs.reading import read_records
from blemish.runs.shards import ShardFolder
from blemish.runs.tables import records_table
from example_runs import make_run


def scored(*scores: float | None) -> list[dict[str, Any]]:
    return [{"image_score": score, "source": str(number)} for number, score in enumerate(scores)]


@pytest.mark.parametrize("count", [2, 10, 50])
def test_the_highest_scores_are_there_and_each_image_once_in_its_order(count: int) -> None:
    records = scored(None, *((number * 37 % 101) / 101 for number in range(101)))
    chosen = sample_records(records, count)
    places = [int(record["source"]) for record in chosen]
    assert places == sorted(set(places))
    assert len(places) == count
    highest = sorted((record["image_score"] or -1 for record in records), reverse=True)[: count // 2]
    assert set(highest) <= {record["image_score"] for record in chosen}


def test_all_are_there_where_they_are_no_more_than_asked_for() -> None:
    records = scored(0.5, None, 0.5, 0.1)
    assert sample_records(records, 9) == records


def test_the_page_says_how_many_it_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_ON_PAGE", 2)
    run = make_run(tmp_path)
    assert report(run.path).images == 2
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "The run has 5 images" in page
    assert "This page shows 2 of them" in page


def test_a_run_in_shards_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    records = list(read_records(run.path))
    for number, some in enumerate((records[:2], records[2:])):
        ShardFolder(run.path).land(number, pyarrow.concat_tables([records_table(some)]))
    (run.path / "results.jsonl").unlink()
    assert list(read_records(run.path)) == records
    assert report(run.path, sheet=tmp_path / "sheet.png").images == 5
