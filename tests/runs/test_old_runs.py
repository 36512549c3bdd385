"""A folder of results of version 0.1, before there was a configuration: read, decided again, exported, and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import blemish
from blemish.runs.reading import read_run
from fakes import DarknessEngine, use_darkness

OLD = Path(__file__).parent / "version_0.1"


class NamesMatter(DarknessEngine):
    """The fake engine as it was then."""

    scores_depend_on_vocabulary = True


@pytest.fixture(autouse=True)
def in_a_copy_of_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    use_darkness(monkeypatch, NamesMatter)


def lines(run: str = "run") -> list[bytes]:
    return Path(run, "results.jsonl").read_bytes().splitlines(keepends=True)


def test_its_inspections_are_read_back_with_their_maps() -> None:
    bad, good, unreadable = blemish.results_from("run", on_error="record")
    assert (bad.verdict.value, good.verdict.value) == ("ng", "ok")
    assert isinstance(unreadable, blemish.ImageError)
    assert [region.area_px for region in bad.regions] == [134]
    assert bad.regions[0].size_mm == (6.0, 6.0)
    assert bad.mask().sum() == 134
    assert read_run("run").setup.input_px == 64


def test_it_is_decided_again_reported_and_exported() -> None:
    assert blemish.rethreshold("run", threshold=0.01, pixel_threshold=0.9).verdicts == {"ng": 2}
    (bad, _) = blemish.results_from("run")
    assert bad.regions[0].area_px < 134
    assert blemish.report("run").images == 3
    assert blemish.export("run", "coco", out="coco.json") == 2


def test_it_is_resumed_by_the_options_that_it_was_begun_with() -> None:
    whole = lines()
    Path("run/results.jsonl").write_bytes(whole[0] + whole[1][:30])
    settings = {"defects": "dent, burr", "mm_per_px": 0.5}
    run = blemish.inspect_folder("parts", out="run", resume=True, keep_maps=True, **settings)
    assert run.resumed == 1
    assert lines()[0] == whole[0]
    assert [json.loads(line)["verdict"] for line in lines()] == ["ng", "ok", None]
    with pytest.raises(blemish.UsageError, match=r"begun with mm per px 0\.5, not 0\.1"):
        blemish.inspect_folder("parts", out="run", resume=True, keep_maps=True, **{**settings, "mm_per_px": 0.1})
