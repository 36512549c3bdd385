"""An evaluation spread over a cluster of Ray: the numbers of one process, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blemish.evaluation.command import EvaluationReport, evaluate
from blemish.scale.evaluation import evaluate_on_cluster

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def told(report: EvaluationReport) -> list[Any]:
    found = [evaluation.to_dict() for evaluation in report.session.evaluations]
    for one in found:
        del one["seconds"]
    return json.loads(json.dumps(found, default=str))


def test_numbers_are_those_of_one_process(tmp_path: Path) -> None:
    import torch

    torch.set_num_threads(1)  # as every process of the cluster: the last digits depend on it
    options: dict[str, Any] = {"rounds": 10, "input_px": 224, "methods": ["ensemble"]}
    spread = evaluate_on_cluster("synthetic:6@7", out=tmp_path / "many", cpus=2, **options)
    alone = evaluate("synthetic:6@7", out=tmp_path / "one", **options)
    assert told(spread) == told(alone)
