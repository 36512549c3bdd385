"""Checkpoints as the authors' code writes them, imported: each is told from the others; what is not one is one clear line."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from blemish import models as store
from blemish.errors import ModelError
from blemish.models.load import load_method
from blemish.models.prompts import find_prompts, read_prompts
from checkpoint_files import tiny_clip, tiny_config, write_open_clip

SMALL = tiny_config()
CLIP = tiny_clip(
    replace(SMALL, text=replace(SMALL.text, vocabulary_size=49408, context_length=77))
)  # whose words all exist
WIDTH, JOINT = CLIP.config.text.width, CLIP.config.joint_width


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def anomalyclip(width: int = WIDTH) -> dict[str, Any]:
    state = {"ctx_pos": torch.randn(1, 1, 3, width), "ctx_neg": torch.randn(1, 1, 3, width)}
    deep = {"compound_prompts_text.0": torch.randn(2, width)}
    unused = {
        "compound_prompt_projections.0.weight": torch.zeros(5, 4),
        "token_prefix_pos": torch.zeros(1, 1, 1, width),
    }
    return {"prompt_learner": state | deep | unused}


def faprompt(width: int = WIDTH) -> dict[str, Any]:
    state = {"ctx_pos": torch.randn(1, 1, 5, width), "ctx_neg": torch.randn(1, 10, 2, width)}
    for layer, shape in (("linear1", (10, 10 * JOINT)), ("linear2", (width, 10))):
        state |= {
            f"patch_meta_net.{layer}.weight": torch.zeros(shape),
            f"patch_meta_net.{layer}.bias": torch.zeros(shape[0]),
        }
    return {"prompt_learner": state}


def coop() -> dict[str, Any]:
    """As the authors' trainer saves it without a warm-up."""
    state = {"ctx": torch.randn(16, WIDTH).half(), "token_prefix": torch.zeros(2, 1, WIDTH)}
    return {"state_dict": state, "epoch": 50, "optimizer": {"param_groups": [{"lr": 0.1}]}, "val_result": None}


def cocoop() -> dict[str, Any]:
    hidden = max(1, JOINT // 16)
    state = coop()["state_dict"] | {"ctx": torch.randn(4, WIDTH)}
    state |= {"meta_net.linear1.weight": torch.zeros(hidden, JOINT), "meta_net.linear1.bias": torch.zeros(hidden)}
    state |= {"meta_net.linear2.weight": torch.zeros(WIDTH, hidden), "meta_net.linear2.bias": torch.zeros(WIDTH)}
    return {"state_dict": state, "epoch": 10}


def adaclip() -> dict[str, Tensor]:
    wide, levels = CLIP.config.vision.width, CLIP.config.levels
    state = {f"visual_prompter.static_prompts.{block}": torch.zeros(5, wide) for block in range(2)}
    state |= {f"text_prompter.static_prompts.{block}": torch.zeros(5, WIDTH) for block in range(2)}
    layers = {f"patch_token_layer.head.{index}": (JOINT, wide) for index in range(len(levels))} | {
        "cls_token_layer.head.0": (JOINT, JOINT)
    }
    layers |= {f"dynamic_visual_prompt_generator.head.{index}": (wide, JOINT) for index in range(5)}
    layers |= {f"dynamic_text_prompt_generator.head.{index}": (WIDTH, JOINT) for index in range(5)}
    for name, shape in layers.items():
        state |= {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[0])}
    return {f"clip_model.{name}": tensor for name, tensor in state.items()}


RELEASES = {"anomalyclip": anomalyclip, "faprompt": faprompt, "coop": coop, "cocoop": cocoop, "adaclip": adaclip}


def saved(tmp_path: Path, content: Any, name: str = "epoch_15.pth") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        store.import_model(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_recognised_and_used(tmp_path: Path, name: str) -> None:
    store.import_model(write_open_clip(CLIP, tmp_path / "clip"), name="mine")
    imported = store.import_model(saved(tmp_path, RELEASES[name]()), name=name)
    assert imported.kind == "prompts"
    assert read_prompts(find_prompts(name)).method == name
    assert load_method("mine", prompts=name).method.name == name


def test_a_file_of_the_trainer_is_imported_under_its_own_name(tmp_path: Path) -> None:
    imported = store.import_model(saved(tmp_path, coop(), "model.pth.tar-50"))
    assert imported.name == "model.pth"
    assert "CoOp prompts" in imported.notes[0]


def test_a_checkpoint_with_a_scheduler_object_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its warm-up the trainer pickles the scheduler itself."""
    module = types.ModuleType("dassl.optim.lr_scheduler")
    scheduler = type("ConstantWarmupScheduler", (), {"__module__": module.__name__})
    module.ConstantWarmupScheduler = scheduler  # type: ignore[attr-defined]
    for name in ("dassl", "dassl.optim", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    path = saved(tmp_path, {**coop(), "scheduler": scheduler()})
    said = refusal(path)
    assert "asks for dassl.optim.lr_scheduler.ConstantWarmupScheduler; only tensors are read" in said
    assert "save its tensors alone" in said


def test_damaged_releases_say_what_they_lack(tmp_path: Path) -> None:
    state = adaclip()
    del state["clip_model.cls_token_layer.head.0.bias"]
    assert "lacks clip_model.cls_token_layer.head.0.bias" in refusal(saved(tmp_path, state))
    learner = anomalyclip()["prompt_learner"] | {"ctx_neg": torch.zeros(1, 1, 4, WIDTH)}
    assert "both [1, 1, tokens, width], found [1, 1, 3" in refusal(saved(tmp_path, {"prompt_learner": learner}))
    assert "[2, tokens, width] for normal and abnormal, found [1000, 16, 8]" in refusal(
        saved(tmp_path, {"state_dict": {"ctx": torch.zeros(1000, 16, 8)}})
    )


def test_a_checkpoint_of_no_known_method_names_what_it_holds(tmp_path: Path) -> None:
    said = refusal(saved(tmp_path, {"prompt_learner": {"something": torch.zeros(2)}}))
    assert "expected trained prompts as the authors of a method publish them (adaclip, anomalyclip" in said
    assert "found prompt_learner.something [2]" in said


@pytest.mark.parametrize(("name", "part"), [("anomalyclip", "normal_context"), ("faprompt", "normal_tokens")])
def test_prompts_of_another_width_do_not_fit_and_say_where(tmp_path: Path, name: str, part: str) -> None:
    store.import_model(write_open_clip(CLIP, tmp_path / "clip"), name="mine")
    store.import_model(saved(tmp_path, RELEASES[name](40)), name="wide")  # type: ignore[operator]
    with pytest.raises(
        ModelError, match=rf"{part} is \[\d, 40\] in the checkpoint, but \[\d, {WIDTH}\] on this backbone"
    ):
        load_method("mine", prompts="wide")
