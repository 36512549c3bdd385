"""The engine that runs a method with torch: threads, precision, compiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_methods import small_method, some_images

from blemish.config import ModelConfig
from blemish.engines import torch as module
from blemish.engines.torch import TorchEngine, in_half, keep_float32, use_threads
from blemish.errors import UsageError
from blemish.language import parse_defects
from blemish.methods.base import Method
from blemish.models.load import Loaded

IMAGES = some_images()
VOCABULARY = parse_defects("scratch, hole")


@pytest.fixture(scope="module")
def method() -> Method:
    return small_method()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_are_those_asked_for_else_no_more_than_are_free(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    use_threads(2)
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(module, "free_processors", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    use_threads(None)
    assert torch.get_num_threads() == 2  # the user has said so
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_threads(None)
    assert torch.get_num_threads() == 1
    with pytest.raises(UsageError, match="at least one thread, not 0"):
        ModelConfig(threads=0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))  # where measurements are kept


def in_half_precision(method: Method) -> TorchEngine:
    engine = TorchEngine.of(Loaded(method), ModelConfig(precision="half")).engine
    assert isinstance(engine, TorchEngine)
    return engine


@pytest.mark.parametrize(
    ("device", "precision", "rounds"), [("cuda", "float32", False), ("cuda:1", "half", True), ("cpu", "float32", True)]
)
def test_convolutions_on_a_gpu_round_only_where_half_was_asked_for(
    device: str, precision: Any, rounds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    keep_float32(torch.device(device), precision)
    assert torch.backends.cudnn.allow_tf32 == rounds


def test_half_precision_is_another_setup_of_the_same_model(method: Method) -> None:
    full, half = TorchEngine(method, backbone="tiny"), in_half_precision(method)
    assert half.model == full.model
    assert full.deviation == 0.0
    assert 0 < half.deviation <= 1e-2  # measured
    blocks = half.method.backbone.image.blocks  # type: ignore[union-attr]
    assert blocks[0].mlp.fc_in.weight.dtype == torch.bfloat16
    assert method.backbone.image.blocks[0].mlp.fc_in.weight.dtype == torch.float32  # type: ignore[union-attr,index]
    assert half.method.backbone.text is method.backbone.text
    texts = full.encode_texts(VOCABULARY)
    for own, other in zip(half.score(half.encode(IMAGES), texts), full.score(full.encode(IMAGES), texts), strict=True):
        assert own.image_score == pytest.approx(other.image_score, abs=0.02)
        assert not np.array_equal(own.anomaly_map, other.anomaly_map)


def test_halving_twice_copies_nothing_more(method: Method) -> None:
    half = in_half(method, torch.bfloat16)
    assert in_half(half, torch.bfloat16).backbone is half.backbone
    assert half.fingerprint() == method.fingerprint()


def test_references_are_compared_in_the_same_precision(method: Method) -> None:
    half = in_half_precision(method).with_references([IMAGES])
    assert half.precision == "half"
    assert len(half.score(half.encode(IMAGES[:2]), half.encode_texts(VOCABULARY))) == 2


def test_what_is_compiled_is_the_image_side(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    engine = TorchEngine(method, backbone="tiny", compiled=True)
    assert compiled == [method.encode]
    assert len(engine.score(engine.encode(IMAGES), engine.encode_texts(VOCABULARY))) == len(IMAGES)
