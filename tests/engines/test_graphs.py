"""Engines that run the image side as an exported graph give torch's scores."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from small_methods import small_method, some_images

from blemish.config import ModelConfig
from blemish.engines import ENGINES, sessions
from blemish.engines import auto as auto_module
from blemish.engines.auto import AutoEngine
from blemish.engines.comparing import EXACT, Measured, bound_of, deviation_between
from blemish.engines.graphs import GraphEngine, ImageSide, ONNXRuntimeEngine, OpenVINOEngine
from blemish.engines.sessions import LIBRARIES, installed_libraries, open_graph
from blemish.engines.torch import TorchEngine
from blemish.errors import MissingExtraError, ModelError, UsageError
from blemish.language import parse_defects
from blemish.methods.base import Method
from blemish.models.load import Loaded
from blemish.models.paths import leftovers

VOCABULARY = parse_defects("scratch, hole")
KINDS: dict[str, type[GraphEngine]] = {"openvino": OpenVINOEngine, "onnxruntime": ONNXRuntimeEngine}
needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="the extra onnx is not installed")


def library(name: str) -> Any:
    missing = any(importlib.util.find_spec(package) is None for package in (name, "onnx"))
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"{name} or onnx is not installed"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def engines(method: Method, name: str) -> tuple[TorchEngine, TorchEngine]:
    """Torch's engine and another one of the same method."""
    config = ModelConfig(engine=name, threads=1)
    return TorchEngine(method, backbone="tiny"), KINDS[name].of(Loaded(method), config).engine  # type: ignore[return-value]


@pytest.mark.parametrize("trunk", [False, True])
@pytest.mark.parametrize("name", [library("openvino"), library("onnxruntime")])
def test_scores_are_those_of_torch_for_any_number_of_images(name: str, trunk: bool) -> None:
    plain, other = engines(small_method(trunk=trunk), name)
    assert (other.name, other.model) == (name, plain.model)
    assert 0 < other.deviation <= EXACT
    texts = plain.encode_texts(VOCABULARY)
    for count in (1, 3):
        images = some_images(count, seed=count)
        expected, found = (engine.score(engine.encode(images), texts) for engine in (plain, other))
        assert len(found) == count
        assert deviation_between(expected, found) <= other.deviation


@pytest.mark.parametrize("name", [library("openvino")])
def test_half_is_what_torch_computes_in_half(name: str) -> None:
    method = small_method(trunk=True)
    plain = TorchEngine(method, backbone="tiny")
    engine = KINDS[name].of(Loaded(method), ModelConfig(engine=name, threads=1, precision="half")).engine
    texts, images = plain.encode_texts(VOCABULARY), some_images(2)
    expected = plain.score(plain.encode(images), texts)
    apart = deviation_between(expected, engine.score(engine.encode(images), texts))
    assert 1e-6 < apart < 0.02  # the trunk, norms and sums stay in float32
    assert engine.deviation >= 1e-5


@pytest.mark.parametrize("method", ["faprompt", "dapo", "anomalyclip"])
def test_methods_with_prompts_of_their_own_are_exported_too(method: str) -> None:
    if not installed_libraries() or importlib.util.find_spec("onnx") is None:
        pytest.skip("neither openvino nor onnxruntime is installed with onnx")
    plain, other = engines(small_method(method), installed_libraries()[-1])
    texts, images = plain.encode_texts(VOCABULARY), some_images(3)
    assert deviation_between(plain.score(plain.encode(images), texts), other.score(other.encode(images), texts)) < 1e-4


@pytest.mark.parametrize("trunk", [False, True])
@pytest.mark.parametrize("name", [library("onnxruntime")])
def test_images_are_compared_with_others_by_the_same_pass(name: str, trunk: bool) -> None:
    plain, other = (engine.with_references([some_images(6)]) for engine in engines(small_method(trunk=trunk), name))
    assert isinstance(other, ONNXRuntimeEngine)
    texts, images = plain.encode_texts(VOCABULARY), some_images(2, seed=5)
    expected, found = (engine.score(engine.encode(images), texts) for engine in (plain, other))
    assert plain.references == other.references
    assert deviation_between(expected, found) < 5e-3  # log odds are moved by distances in their own small spread


@pytest.mark.parametrize("name", [library("onnxruntime")])
def test_a_graph_is_written_and_measured_once(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = small_method()
    first = ImageSide(method, name, threads=1)
    assert first.measured() == first.measured()
    files = {file: file.stat().st_mtime_ns for file in home.rglob("*.*") if file.is_file()}
    assert any(file.suffix == ".onnx" for file in files)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr("blemish.engines.graphs.write_encode", fail)
    again = ImageSide(method, name, threads=1)
    again.encode(torch.from_numpy(some_images(1)))
    assert again.measured() == first.measured()
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert ImageSide(small_method(input_px=64), name).folder != first.folder
    (kept,) = leftovers()  # what `blemish cache` lists and clears
    assert (kept.what, set(kept.files)) == ("exported graphs", set(files))


@pytest.mark.parametrize("name", [library("onnxruntime")])
def test_positions_of_another_input_size_are_numbers_in_the_graph(name: str) -> None:
    method = small_method(input_px=56)
    found = ImageSide(method, name, threads=1).encode(torch.from_numpy(some_images(2, side=56)))
    expected = method.encode(torch.from_numpy(some_images(2, side=56)))
    assert found.grid == expected.grid == (7, 7)
    assert torch.allclose(found.levels[0], expected.levels[0], atol=1e-5)


def test_a_library_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda _: None)
    assert installed_libraries() == []
    for name, extra in (("openvino", "openvino"), ("onnxruntime", "onnx")):
        with pytest.raises(
            MissingExtraError, match=rf'the engine \'{name}\' needs {name}: pip install "blemish\[{extra}\]"'
        ):
            ENGINES[name].load(ModelConfig(engine=name))


def test_tensorrt_that_is_not_there_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(distribution: str) -> str:
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(sessions, "version", version)
    assert "tensorrt" not in installed_libraries()
    with pytest.raises(UsageError, match=r"an NVIDIA GPU and an ONNX Runtime built with TensorRT: .*onnxruntime-gpu"):
        ENGINES["tensorrt"].load(ModelConfig(engine="tensorrt"))


@pytest.mark.parametrize("name", [library("onnxruntime")])
def test_tensorrt_is_not_quietly_replaced_by_the_processor(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = ImageSide(small_method(), name, threads=1)
    side.encode(torch.from_numpy(some_images(1)))
    (model,) = side.folder.glob("*.onnx")
    monkeypatch.setattr(sessions, "version", lambda _: "1.0")  # as if the build with TensorRT were there
    with pytest.warns(UserWarning, match="TensorrtExecutionProvider"):  # noqa: SIM117
        with pytest.raises(ModelError, match="TensorrtExecutionProvider could not be loaded: is there an NVIDIA GPU"):
            open_graph("tensorrt", model, cache=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda"}, "runs on the processor"),
        ({"precision": "half"}, "computes in float32 only"),
        ({"compiled": True}, "--compiled is for the engine torch"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(UsageError, match=message):
        ONNXRuntimeEngine.load(replace(ModelConfig(), **changes))


@pytest.mark.parametrize("name", [library("openvino"), library("onnxruntime")])
def test_a_file_that_is_no_model_is_a_model_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=f"model.onnx: {name} .* cannot run it on this processor"):
        open_graph(name, tmp_path / "model.onnx", threads=1)


def test_auto_takes_the_fastest_that_is_exact_else_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"openvino": Measured(1e-5, 0.5, 1.0), "onnxruntime": Measured(1e-5, 0.3, 1.0)}

    class FakeSide:
        def __init__(self, method: Method, name: str, **_: Any) -> None:
            self.name = name
            self.method = method

        def measured(self) -> Measured:
            if self.name not in measured:
                raise UsageError("ONNX does not know this method")
            return measured[self.name]

    monkeypatch.setattr("blemish.engines.auto.ImageSide", FakeSide)
    monkeypatch.setattr(auto_module, "installed_libraries", lambda: list(LIBRARIES))
    loaded = Loaded(small_method())

    def chosen(**config: Any) -> type:
        return type(AutoEngine.of(loaded, ModelConfig(engine="auto", **config)).engine)

    assert chosen() is ONNXRuntimeEngine
    assert chosen(precision="half") is TorchEngine
    measured["onnxruntime"] = Measured(1e-2, 0.3, 1.0)  # not exact
    assert chosen() is OpenVINOEngine
    measured["openvino"] = Measured(1e-5, 1.1, 1.0)  # slower than torch
    assert chosen() is TorchEngine
    measured.clear()
    assert chosen() is TorchEngine


@pytest.mark.parametrize(("error", "bound"), [(0.0, 1e-6), (1e-6, 1e-6), (3e-6, 1e-5), (0.02, 0.1), (1.0, 1.0)])
def test_a_bound_is_a_power_of_ten_that_the_error_does_not_exceed(error: float, bound: float) -> None:
    assert bound_of(error) == pytest.approx(bound)
    assert bound_of(error) >= error
