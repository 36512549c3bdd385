"""AnomalyCLIP, AdaCLIP, CoOp and CoCoOp through the whole training: features kept, one epoch, prompts that load again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import probe
from blemish import methods
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.models.prompts import read_prompts
from blemish.training import loop, recipe_of, train
from blemish.training.log import PLOT_FILE

SHAPE = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 16,
        "vision": {"image_size": 32, "width": 24, "depth": 4, "heads": 2, "patch_size": 8, "position_grid": 4},
        "text": {"width": 16, "depth": 4, "heads": 2},
    }
)
OPTIONS: dict[str, dict[str, Any]] = {
    "anomalyclip": {},
    "adaclip": {"clusters": 3},
    "coop": {"maps": "value-value"},
    "cocoop": {},
}


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(loop, "plot_losses", lambda folder: (folder / PLOT_FILE).touch())


def tiny_clip() -> Clip:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        clip = Clip(SHAPE)
        torch.nn.init.normal_(clip.text.token_embedding.weight, std=0.3)
        return clip


@pytest.mark.parametrize("name", OPTIONS)
def test_two_epochs_lower_the_loss_and_the_prompts_load_again(tmp_path: Path, name: str) -> None:
    options, clip = OPTIONS[name], tiny_clip()
    recipe = replace(recipe_of(name, epochs=3, batch_size=4), rate=0.01, cache_dtype="float32")
    data = probe.data_set(8)
    done = train(
        name,
        data,
        out=tmp_path / "out",
        backbone=clip,
        options=options,
        recipe=recipe,
        held_out=probe.data_set(6, seed=5),
    )
    totals = [record["means"]["total"] for record in done.history]
    assert totals[-1] < totals[0]
    found = read_prompts(done.prompts[-1])
    assert found.method == name
    method = methods.build(name, clip, found.options)
    method.load_trained(found.state)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scores = method.score(method.encode(images), method.encode_texts())
    assert scores.anomaly_map.shape == (2, 32, 32)
    assert set(found.card["metrics"]) == {"image_auroc", "pixel_auroc"}
    assert list((tmp_path / "home" / "features").glob("*/??/*.safetensors"))  # what no training moves is kept


def test_features_from_the_cache_train_as_fresh_ones(tmp_path: Path) -> None:
    """AdaCLIP keeps its first pass and the patch embedding, whose widths differ."""
    ends = []
    for kept in ("float32", "none"):
        recipe = replace(recipe_of("adaclip", epochs=1, batch_size=2), cache_dtype=kept)
        done = train(
            "adaclip",
            probe.data_set(4),
            out=tmp_path / kept,
            backbone=tiny_clip(),
            options={"clusters": 3},
            recipe=recipe,
        )
        ends.append(read_prompts(done.prompts[-1]).state)
    for name, part in ends[0].items():
        assert torch.allclose(part, ends[1][name], atol=2e-3), name
