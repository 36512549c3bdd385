"""An exported model runs without torch, gives torch's scores, and is refused where it is not what was exported."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_methods import small_method, some_images

from blemish.config import ModelConfig
from blemish.engines import exporting, held_out, int8, sessions
from blemish.engines.comparing import deviation_between
from blemish.engines.exported import EXPORT_FILE, ONNX_FILE, ExportedEngine, is_exported
from blemish.engines.exporting import ExportedModel, export_model
from blemish.engines.torch import TorchEngine
from blemish.errors import MissingExtraError, ModelError, UsageError
from blemish.inspection.load import load_engine
from blemish.language import DefectType, Vocabulary, general, parse_defects
from blemish.models.load import Loaded

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("onnx", "onnxruntime")),
    reason="the extra onnx is not installed",
)
GIVEN = parse_defects("burnt corner, scratch")
THRESHOLDS = {"image": 0.6, "pixel": 0.5}


def written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, method: str = "ensemble", **options: Any
) -> ExportedModel:
    """A small method, exported with ONNX Runtime alone."""

    def load(config: ModelConfig, *, input_px: int | None = None) -> Any:
        loaded = Loaded(small_method(method, input_px=input_px), thresholds=THRESHOLDS, min_lead=0.1)
        return TorchEngine.of(loaded, config)

    monkeypatch.setattr(TorchEngine, "load", load)
    monkeypatch.setattr(exporting.models, "card", lambda _: {"note": "small"})
    monkeypatch.setattr(exporting, "installed_libraries", lambda: ["onnxruntime"])
    return export_model(ModelConfig(), folder, vocabulary=GIVEN, **options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    with pytest.MonkeyPatch.context() as patch:
        done = written(folder, patch)
    assert done.folder == folder
    assert set(done.errors) == {"onnxruntime"}
    return folder


def engine_of(folder: Path) -> ExportedEngine:
    return ExportedEngine(folder, library="onnxruntime", threads=1)


@pytest.mark.parametrize("method", ["ensemble", "faprompt", "dapo", "anomalyclip"])
def test_scores_are_those_of_torch_for_every_part_of_its_vocabularies(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "model", monkeypatch, method=method)
    plain, other = TorchEngine(small_method(method), backbone="tiny"), engine_of(tmp_path / "model")
    assert other.model == plain.model
    for vocabulary in (general(), GIVEN, parse_defects("hole, burnt corner"), parse_defects("stain")):
        for count in (1, 3):
            images = some_images(count, seed=count)
            expected, found = (
                engine.score(engine.encode(images), engine.encode_texts(vocabulary)) for engine in (plain, other)
            )
            assert [row.types for row in found] == [vocabulary.names] * count
            assert deviation_between(expected, found) < 1e-4


def test_the_folder_is_a_backbone(exported: Path) -> None:
    assert is_exported(str(exported))
    assert not is_exported("embedded")
    loaded = load_engine(ModelConfig(backbone=str(exported), engine="onnxruntime"))
    assert isinstance(loaded.engine, ExportedEngine)
    assert loaded.engine.name == "onnxruntime"
    assert (dict(loaded.thresholds), loaded.min_lead) == (THRESHOLDS, 0.1)
    assert loaded.engine.deviation <= 1e-4
    assert json.loads((exported / "card.json").read_text()) == {"note": "small"}
    needed = (exported / "requirements.txt").read_text().split()
    assert any(line.startswith("regex") for line in needed)
    assert any(line.startswith("onnxruntime") for line in needed)
    assert not any(line.startswith("torch") for line in needed)


def test_it_runs_without_torch(exported: Path) -> None:
    code = f"""
import sys
import numpy as np
import blemish
inspector = blemish.load({str(exported)!r}, engine="onnxruntime", defects="burnt corner, hole", threads=1)
print(inspector.inspect(np.zeros((40, 50, 3), np.uint8)).verdict, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split()[1] == "False"


def test_words_that_it_has_no_features_of_are_refused(exported: Path) -> None:
    engine = engine_of(exported)
    with pytest.raises(UsageError, match=r"no text features of 'rust' with these words \(it knows: .*burnt corner"):
        engine.encode_texts(parse_defects("hole, rust"))
    with pytest.raises(UsageError, match="no text features of 'scratch' with these words"):
        engine.encode_texts(Vocabulary((DefectType("scratch", synonyms=("furrow",)),)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "dapo"}, "keeps its method"),
        ({"prompts": "mine"}, "keeps its prompts"),
        ({"options": {"temperature": 1.0}}, "keeps its options"),
        ({"precision": "half"}, "runs on the processor, in float32 or int8"),
        ({"device": "cuda"}, "runs on the processor, in float32 or int8"),
        ({"precision": "int8"}, "was exported without int8"),
    ],
)
def test_what_an_exported_model_cannot_change_is_refused(changes: dict[str, Any], message: str, exported: Path) -> None:
    config = ModelConfig(backbone=str(exported), engine="onnxruntime")
    with pytest.raises(UsageError, match=message):
        load_engine(replace(config, **changes))
    with pytest.raises(UsageError, match="was exported for an input of 32 px, not 64"):
        load_engine(config, input_px=64)


def cut(folder: Path) -> None:
    (folder / ONNX_FILE).write_bytes((folder / ONNX_FILE).read_bytes()[:-1])


def altered(folder: Path) -> None:
    data = bytearray((folder / "texts.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "texts.safetensors").write_bytes(data)


def older(folder: Path) -> None:
    facts = json.loads((folder / EXPORT_FILE).read_text())
    (folder / EXPORT_FILE).write_text(json.dumps(facts | {"schema": "blemish.exported_model/0"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "model.onnx: is not the file that was exported"),
        (altered, "texts.safetensors: is not the file that was exported"),
        (older, "was exported as 'blemish.exported_model/0', this version reads 'blemish.exported_model/1'"),
        (lambda folder: (folder / ONNX_FILE).unlink(), "model.onnx: is missing"),
        (lambda folder: (folder / EXPORT_FILE).write_text("{"), EXPORT_FILE),
    ],
)
def test_a_damaged_folder_is_a_model_error(
    damage: Callable[[Path], Any], message: str, exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(ModelError, match=message):
        load_engine(ModelConfig(backbone=str(tmp_path / "copy"), engine="onnxruntime"))


def test_nothing_is_written_above_the_tolerance_or_in_another_folder_s_place(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UsageError, match=r"gives scores up to .* from torch's on 2 images, more than 1e-12: nothing was"
    ):
        written(tmp_path / "model", monkeypatch, tolerance=1e-12)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="is there already"):
        written(exported, monkeypatch)


def test_without_a_library_it_says_how_to_install_one(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'pip install "blemish\[onnx\]"'):
        load_engine(ModelConfig(backbone=str(exported)))


def test_every_image_counts_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blemish.images import Picture

    pictures = [Picture(np.full((20, 30, 3), value, np.uint8), source="one") for value in (0, 90, 255)]
    assert written(tmp_path / "model", monkeypatch, images=pictures).images == 3
    facts = json.loads((tmp_path / "model" / EXPORT_FILE).read_text())
    assert facts["parity"]["images"] == 3
    assert facts["parity"]["rendered"] is False
    with pytest.raises(UsageError, match="no image to compare"):
        written(tmp_path / "other", monkeypatch, images=[])


@pytest.fixture
def quick_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (held_out, int8):
        monkeypatch.setattr(module, "PHOTO_PX", 64)
    monkeypatch.setattr(int8, "CALIBRATION_PHOTOS", 2)


@pytest.mark.usefixtures("quick_photos")
def test_int8_that_loses_nothing_is_kept_with_thresholds_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LARGEST_LOSS", 1.0)  # a random model ranks by chance
    done = written(tmp_path / "model", monkeypatch, int8_photos=12)
    assert done.int8.startswith("kept: the loss of ")
    facts = json.loads((tmp_path / "model" / EXPORT_FILE).read_text())
    assert facts["int8"]["accepted"] is True
    own = ModelConfig(backbone=str(tmp_path / "model"), engine="onnxruntime")
    exact, quantised = (load_engine(replace(own, precision=precision)) for precision in ("float32", "int8"))  # type: ignore[arg-type]
    assert quantised.engine.precision == "int8"
    assert quantised.engine.deviation == 1.0  # no threshold of the exact model holds for it
    assert dict(quantised.thresholds) == facts["int8"]["results"]["onnxruntime"]["thresholds"]
    assert set(quantised.thresholds) == set(exact.thresholds)
    results = [
        loaded.engine.score(loaded.engine.encode(some_images(2)), loaded.engine.encode_texts(GIVEN))
        for loaded in (exact, quantised)
    ]
    assert 0 < deviation_between(*results) < 0.5
    (tmp_path / "model" / "model-int8.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model-int8\.onnx: is not the file that was exported"):
        load_engine(replace(own, precision="int8"))


@pytest.mark.usefixtures("quick_photos")
def test_int8_that_loses_too_much_is_refused_with_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "LARGEST_LOSS", -1.0)
    done = written(tmp_path / "model", monkeypatch, int8_photos=12)
    assert done.int8.startswith("refused: the loss of ")
    assert not (tmp_path / "model" / "model-int8.onnx").exists()
    with pytest.raises(UsageError, match=r"int8 was refused when it was exported \(refused: .*image AUROC 0"):
        load_engine(ModelConfig(backbone=str(tmp_path / "model"), engine="onnxruntime", precision="int8"))
    assert (
        load_engine(ModelConfig(backbone=str(tmp_path / "model"), engine="onnxruntime")).engine.precision == "float32"
    )


def test_a_threshold_moves_with_the_scores_that_it_divides() -> None:
    before = np.array([0.1, 0.4, 0.2, 0.3])
    assert held_out.moved_threshold(0.25, before, before) == pytest.approx(0.25)
    assert held_out.moved_threshold(0.25, before, before + 0.2) == pytest.approx(0.45)
    assert held_out.moved_threshold(0.6, before, before + 0.2) == pytest.approx(0.8)
    assert held_out.moved_threshold(0.05, before, before - 0.1) == 0.0


def test_an_opset_that_the_library_does_not_know_is_a_model_error(exported: Path, tmp_path: Path) -> None:
    import onnx

    shutil.copytree(exported, tmp_path / "copy")
    model = onnx.load(str(exported / ONNX_FILE))
    model.opset_import[0].version = 999
    onnx.save(model, str(tmp_path / "copy" / ONNX_FILE))
    facts = json.loads((exported / EXPORT_FILE).read_text())
    data = (tmp_path / "copy" / ONNX_FILE).read_bytes()
    facts["files"][ONNX_FILE] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (tmp_path / "copy" / EXPORT_FILE).write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=r"model\.onnx: onnxruntime .* cannot run it on this processor .*opset"):
        load_engine(ModelConfig(backbone=str(tmp_path / "copy"), engine="onnxruntime"))
