"""Products that other processes have counted: together they are the evaluation of one process, to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scenes import candidate, data_set

from blemish.data.samples import DataSet
from blemish.evaluation import Evaluation, EvaluationSettings, evaluate_candidate
from blemish.evaluation.running import EvaluationRun
from blemish.io.progress import Reporter

QUICK = EvaluationSettings(rounds=20, batch_size=5, typed=True, save_every_s=0)


def run_in(out: Path, data: DataSet) -> EvaluationRun:
    return EvaluationRun(candidate(), data, out=out, settings=QUICK, reporter=Reporter())


def told(found: Evaluation) -> str:
    return json.dumps(replace(found, seconds=0.0).to_dict(), default=str)


@pytest.mark.parametrize("apart", [(0, 1, 2), (2, 0), (1, 2), (0,)])
def test_the_numbers_are_those_of_one_process(tmp_path: Path, apart: tuple[int, ...]) -> None:
    data = data_set(products=("thing", "other", "third"))
    expected = evaluate_candidate(candidate(), data, out=tmp_path / "one", settings=QUICK)[0]
    for product in apart:
        assert run_in(tmp_path / "many", data).count_apart(product) == 12
    found = evaluate_candidate(candidate(), data, out=tmp_path / "many", settings=QUICK)[0]
    assert told(found) == told(expected)
    assert found.records == expected.records


def test_a_count_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_set(products=("thing", "other"))
    expected = evaluate_candidate(candidate(), data, out=tmp_path / "one", settings=QUICK)[0]
    stopped = run_in(tmp_path / "many", data)
    add, added = EvaluationRun._add, []

    def stop(self: EvaluationRun, *given: object) -> object:
        added.append(given)
        if len(added) == 8:
            raise KeyboardInterrupt
        return add(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(EvaluationRun, "_add", stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.count_apart(1)
    monkeypatch.setattr(EvaluationRun, "_add", add)
    for product in (0, 1):
        run_in(tmp_path / "many", data).count_apart(product)
    found = evaluate_candidate(candidate(), data, out=tmp_path / "many", settings=QUICK)[0]
    assert (told(found), found.records) == (told(expected), expected.records)
    assert not (next((tmp_path / "many").iterdir()) / "apart").exists()
