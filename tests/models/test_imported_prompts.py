"""Prompts of the authors' releases, imported into the store of models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blemish import models as store
from blemish.errors import ModelError, UsageError
from blemish.models.prompts import find_prompts, read_prompts
from checkpoint_files import (
    huggingface_state,
)
from models.tiny_store import (
    CLIP,
    assert_computes_the_same,
    new_home,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return new_home(tmp_path, monkeypatch)


def prompts(own_tokens: int = 2) -> dict[str, dict[str, Tensor]]:
    """FAPrompt's trained parts for a text tower of width 8, with what the authors' code saves beside them."""
    deep = (
        torch.arange(2 * 4 * 8).reshape(2, 8, 4).float().transpose(1, 2)
    )  # views of one memory, as trainers save them
    return {
        "prompt_learner": {
            "ctx_pos": torch.ones(1, 1, 5, 8),
            "ctx_neg": torch.ones(1, 10, own_tokens, 8),
            "compound_prompts_text.0": deep[0],
            "compound_prompts_text.1": deep[1],
            "compound_prompt_projections.0.weight": torch.ones(3, 8),
            "token_prefix_pos": torch.ones(1, 1, 1, 8),
            "patch_meta_net.linear1.weight": torch.ones(5, 80),
            "patch_meta_net.linear1.bias": torch.ones(5),
            "patch_meta_net.linear2.weight": torch.ones(8, 5),
            "patch_meta_net.linear2.bias": torch.ones(8),
        }
    }


@pytest.mark.parametrize(("own_tokens", "called"), [(2, "2 abnormal tokens"), (1, "first upload")])
def test_official_prompts_become_ours(tmp_path: Path, home: Path, own_tokens: int, called: str) -> None:
    torch.save(prompts(own_tokens), tmp_path / "trained.pth")
    imported = store.import_model(tmp_path / "trained.pth")
    assert (imported.name, imported.kind) == ("trained", "prompts")
    assert called in imported.notes[0]
    assert "--prompts trained" in imported.notes[-1]
    found = read_prompts(find_prompts("trained"))
    assert found.method == "faprompt"
    assert found.options["selection"] == "released"
    assert found.options["deep_blocks"] == [2, 3]
    assert found.options["image_cross_entropy"] is (own_tokens > 1)
    assert {name: list(part.shape) for name, part in found.state.items()} == {
        "normal_tokens": [5, 8],
        "abnormal_tokens": [10, own_tokens, 8],
        "deep_tokens": [2, 4, 8],
        "psi.hidden.weight": [5, 80],
        "psi.hidden.bias": [5],
        "psi.out.weight": [8, 5],
        "psi.out.bias": [8],
    }
    assert torch.equal(found.state["deep_tokens"][1], prompts()["prompt_learner"]["compound_prompts_text.1"])
    assert store.info("trained")["tensors"]["normal_tokens"] == [5, 8]
    with pytest.raises(UsageError, match="prompts, not a backbone"):
        store.load_backbone("trained")
    again = store.import_model(home / "prompts" / "trained" / "prompts.safetensors", name="copy")
    assert "written by Blemish" in again.notes[0]
    assert read_prompts(find_prompts("copy")).options == found.options


def test_a_file_that_is_no_prompts_says_what_was_expected_and_found(tmp_path: Path) -> None:
    torch.save({"prompt_learner": {"ctx_pos": torch.ones(12, 8)}}, tmp_path / "half.pth")
    with pytest.raises(ModelError, match=r"expected trained prompts .*faprompt.* found .*ctx_pos \[12, 8\]"):
        store.import_model(tmp_path / "half.pth")
    odd = prompts()
    odd["prompt_learner"]["ctx_pos"] = torch.ones(5, 8)
    torch.save(odd, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"odd.pth: expected ctx_pos \[1, 1, tokens, width\]"):
        store.import_model(tmp_path / "odd.pth")


def test_real_prompts_of_crane(tmp_path: Path) -> None:
    golden = Path(os.environ.get("BLEMISH_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")
    path = golden / "crane" / "prompts_trained_on_mvtec.pth"
    if not path.is_file():
        pytest.skip(f"no {path} (set BLEMISH_GOLDEN)")
    assert "AnomalyCLIP" in store.import_model(path).notes[0]
    assert store.info("prompts_trained_on_mvtec")["tensors"]["abnormal_context"] == [12, 768]
    assert store.info("prompts_trained_on_mvtec")["card"]["method"] == "anomalyclip"


def test_where_a_file_holds_both_the_user_decides(tmp_path: Path) -> None:
    torch.save({**huggingface_state(CLIP), **prompts()}, tmp_path / "both.pth")
    with pytest.raises(UsageError, match="--as"):
        store.import_model(tmp_path / "both.pth")
    assert_computes_the_same(store.load_backbone(store.import_model(tmp_path / "both.pth", kind="backbone").name))


def test_where_a_file_holds_neither_the_user_may_decide(tmp_path: Path) -> None:
    torch.save({"context": torch.ones(4, 8)}, tmp_path / "ctx.pth")
    with pytest.raises(ModelError, match="neither"):
        store.import_model(tmp_path / "ctx.pth")
    with pytest.raises(ModelError, match="expected trained prompts"):
        store.import_model(tmp_path / "ctx.pth", kind="prompts")
    with pytest.raises(ModelError, match="expected CLIP weights"):
        store.import_model(tmp_path / "ctx.pth", kind="backbone")
