"""`blemish.load`: names, thresholds and vocabularies come together; the real method on a tiny random backbone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import blemish
from blemish.clip.config import BackboneConfig
from blemish.clip.model import Clip
from blemish.errors import UnknownNameError, UsageError

CARD = {"thresholds": {"ensemble": {"image": 0.6, "review": 0.5, "pixel": 0.7}}}
TINY = BackboneConfig.from_dict(
    {
        "name": "tiny",
        "joint_width": 16,
        "vision": {
            "image_size": 32,
            "width": 32,
            "depth": 4,
            "heads": 2,
            "patch_size": 8,
            "position_grid": 4,
        },
        "text": {"width": 16, "depth": 2, "heads": 2},
    }
)


@pytest.fixture(autouse=True)
def tiny_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_backbone(name: str) -> Clip:
        assert name == "tiny"
        torch.manual_seed(0)
        return Clip(TINY)

    def card(name: str) -> dict[str, object]:
        return CARD

    store = SimpleNamespace(load_backbone=load_backbone, card=card)
    monkeypatch.setattr(blemish, "store", store, raising=False)


IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_the_card_gives_thresholds_and_the_backbone_its_preprocessing() -> None:
    inspector = blemish.load("tiny")
    assert inspector.thresholds == blemish.Thresholds(image=0.6, review=0.5, pixel=0.7)
    assert inspector.preprocess == TINY.preprocess
    result = inspector.inspect(IMAGE)
    assert (result.model.backbone, result.model.method, result.model.prompts) == ("tiny", "ensemble", "")
    assert len(result.model.fingerprint) == 16
    assert result.anomaly_map.shape == (4, 4)
    assert 0 <= result.image_score <= 1


def test_defects_are_the_types_of_the_results() -> None:
    result = blemish.load("tiny", defects="scratch, oil stain").inspect(IMAGE)
    assert result.types == ("scratch", "oil stain")
    assert result.top_type in result.types
    assert result.type_maps is not None
    assert result.type_maps.shape == (2, 4, 4)


def test_regions_of_a_real_method_are_typed() -> None:
    result = blemish.load("tiny", defects=["scratch", "hole"], pixel_threshold=0.0).inspect(IMAGE)
    (region,) = result.regions
    assert region.box_px == (0, 0, 64, 48)
    assert region.type in ("scratch", "hole")
    assert region.type_probability is not None
    assert 0.5 <= region.type_probability <= 1


def test_an_inspector_does_not_depend_on_the_batch_size() -> None:
    images = [IMAGE[: 20 + i] for i in range(5)]
    one = blemish.load("tiny", batch_size=1).inspect(images)
    many = blemish.load("tiny", batch_size=5).inspect(images)
    np.testing.assert_allclose([r.image_score for r in one], [r.image_score for r in many], atol=1e-5)


def test_unknown_names_and_senseless_thresholds_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'ensembel'; did you mean 'ensemble'"):
        blemish.load("tiny", method="ensembel")
    with pytest.raises(UsageError, match=r"must be in 0\.\.1"):
        blemish.load("tiny", threshold=2)
    with pytest.raises(UsageError, match="empty"):
        blemish.load("tiny", defects="scratch,,")
