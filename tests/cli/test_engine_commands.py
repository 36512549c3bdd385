"""`blemish engines` and `blemish export-model`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from blemish import cli
from blemish.config import ModelConfig
from blemish.engines import measuring
from blemish.engines.exporting import ExportedModel
from blemish.engines.measuring import EngineLine
from blemish.io.codec import to_dict
from blemish.language import Vocabulary

FOUND = [
    EngineLine("torch", "2.13.0", 8.25, 0.0),
    EngineLine("openvino", "2026.4.1", 20.5, 1e-5),
    EngineLine("onnxruntime", "", remark='not installed: pip install "blemish[onnx]"'),
]


def test_engines_are_listed_with_their_speed_here_or_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def measure(config: ModelConfig, *, input_px: int | None = None) -> list[EngineLine]:
        asked.append((config.backbone, config.threads, input_px))
        return FOUND

    monkeypatch.setattr(measuring, "measure_engines", measure)
    assert cli.main(["engines", "--threads", "2", "--input-px", "448"]) == 0
    assert asked == [("embedded", 2, 448)]
    torch, openvino, onnxruntime = capsys.readouterr().out.splitlines()
    assert torch.split()[:4] == ["torch", "2.13.0", "8.2", "images/s,"]
    assert openvino.endswith("20.5 images/s, scores within 1e-05 of torch's")
    assert onnxruntime.endswith('not installed: pip install "blemish[onnx]"')
    assert cli.main(["engines", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [to_dict(line, keep_none=True) for line in FOUND]


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ModelConfig, Path, dict[str, object]]]:
    asked: list[tuple[ModelConfig, Path, dict[str, object]]] = []

    def export(config: ModelConfig, folder: Path, **given: object) -> ExportedModel:
        asked.append((config, folder, given))
        return ExportedModel(folder, 3 * 2**20, {"openvino": 1.1e-6}, 2)

    monkeypatch.setattr("blemish.engines.exporting.export_model", export)
    return asked


def test_a_model_is_exported_with_its_report(
    exports: list[tuple[ModelConfig, Path, dict[str, object]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export-model", "--out", "model", "--method", "dapo", "--defects", "dent, rust"]) == 0
    ((config, folder, given),) = exports
    assert (config.method, folder) == ("dapo", Path("model"))
    assert isinstance(given["vocabulary"], Vocabulary)
    assert given["vocabulary"].names == ("dent", "rust")
    assert (given["images"], given["tolerance"], given["overwrite"]) == (None, 1e-4, False)
    assert capsys.readouterr().out.splitlines() == [
        "openvino: largest error of a score or map beside torch 1.1e-06, on 2 images",
        "exported: model (3 MB)",
        "run it: blemish inspect photos --backbone model",
        "without torch: pip install --no-deps blemish && pip install -r model/requirements.txt",
    ]


def test_a_folder_that_is_there_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("onnxruntime") is None and importlib.util.find_spec("openvino") is None:
        pytest.skip("neither onnxruntime nor openvino is installed")
    assert cli.main(["export-model", "--out", str(tmp_path)]) == 2
    assert "is there already; choose another folder, or --overwrite" in capsys.readouterr().err


def test_the_two_have_nothing_to_say_of_engines_as_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["engines"], ["export-model", "--out", "x"]):
        assert cli.main([*command, "--engine", "torch"]) == 2
        assert "--engine" in capsys.readouterr().err
