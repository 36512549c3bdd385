"""`blemish.load`: names, thresholds and vocabularies come together; the real method on a tiny random backbone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import blemish
from blemish import models
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.methods import build
from blemish.models.feature_cache import feature_store
from blemish.models.load import load_method
from blemish.models.prompts import find_prompts, read_prompts, write_prompts

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

    monkeypatch.setattr(models, "load_backbone", load_backbone)
    monkeypatch.setattr(models, "card", card)


IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_the_card_gives_thresholds_and_the_backbone_its_preprocessing() -> None:
    inspector = blemish.load("tiny")
    assert inspector.thresholds == blemish.Thresholds(image=0.6, review=0.5, pixel=0.7)
    assert inspector.engine.input == TINY.preprocess
    result = inspector.inspect(IMAGE)
    assert (result.model.backbone, result.model.method, result.model.prompts) == ("tiny", "ensemble", "")
    assert len(result.model.fingerprint) == 16
    assert result.anomaly_map.shape == (4, 4)
    assert 0 <= result.image_score <= 1


def test_the_card_says_where_a_type_is_unknown_to_a_method_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blemish.load("tiny").min_lead == 0
    monkeypatch.setitem(CARD, "typing", {"ensemble": {"min_lead": 0.99999}})
    assert blemish.load("tiny").inspect(IMAGE).top_type == "unknown defect"


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


def test_a_vocabulary_file_gives_the_types_of_a_product(tmp_path: Path) -> None:
    file = tmp_path / "parts.toml"
    file.write_text('[types.scratch]\n[types."oil stain"]\n[products.lid]\ntypes = ["oil stain"]\n', encoding="utf-8")
    assert blemish.load("tiny", vocabulary=file).inspect(IMAGE).types == ("scratch", "oil stain")
    assert blemish.load("tiny", vocabulary=file, product="lid").inspect(IMAGE).types == ("oil stain",)
    with pytest.raises(UsageError, match="not both"):
        blemish.load("tiny", vocabulary=file, defects="hole")
    with pytest.raises(UsageError, match="vocabulary file"):
        blemish.load("tiny", product="lid")


def trained(folder: Path, **options: object) -> Path:
    """Prompts for the tiny backbone, as `blemish train` leaves them."""
    torch.manual_seed(0)
    write_prompts(
        folder, build("faprompt", Clip(TINY), options), {"thresholds": {"image": 0.7, "review": 0.6, "pixel": 0.8}}
    )
    return folder


def test_prompts_bring_their_method_options_and_thresholds(tmp_path: Path) -> None:
    inspector = blemish.load("tiny", prompts=trained(tmp_path / "p", patches=4, abnormality_prompts=3))
    assert inspector.engine.method.name == "faprompt"
    assert inspector.engine.method.config.abnormality_prompts == 3
    assert inspector.thresholds == blemish.Thresholds(image=0.7, review=0.6, pixel=0.8)
    assert inspector.model.prompts == str(tmp_path / "p")
    assert 0 <= inspector.inspect(IMAGE).image_score <= 1


def test_prompts_are_refused_where_they_do_not_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tmp_path / "p", patches=4)
    with pytest.raises(UsageError, match="prompts of the method 'faprompt', not of 'ensemble'"):
        blemish.load("tiny", prompts=folder, method="ensemble")
    with pytest.raises(ModelError, match=r"trained with selection 'paper', not 'released' \(--force"):
        blemish.load("tiny", prompts=folder, options={"selection": "released"})
    forced = blemish.load("tiny", prompts=folder, options={"selection": "released"}, force=True)
    assert forced.engine.method.config.selection == "released"
    assert blemish.load("tiny", prompts=folder, options={"smoothing": 0.0}).engine.method.config.smoothing == 0
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["backbone"]["fingerprint"] = "0" * 16
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match=r"trained on the backbone tiny \(0{16}\), not on tiny"):
        blemish.load("tiny", prompts=folder)
    assert blemish.load("tiny", prompts=folder, force=True).engine.method.name == "faprompt"
    with pytest.raises(ModelError, match=r"deep_tokens is|normal_tokens is"):
        blemish.load("tiny", prompts=folder, options={"normal_tokens": 6}, force=True)


def test_a_larger_input_makes_a_finer_map_and_is_another_model() -> None:
    own, larger = blemish.load("tiny"), blemish.load("tiny", input_px=64)
    found = larger.inspect(IMAGE)
    assert found.anomaly_map.shape == (8, 8)
    assert found.type_maps is not None
    assert found.type_maps.shape[1:] == (8, 8)
    assert larger.setup.input_px == 64
    assert larger.model.fingerprint != own.model.fingerprint
    assert (larger.thresholds.image, larger.thresholds.calibration) == (0.5, "uncalibrated")  # none in the card
    assert "thresholds for an input of 32 px, and none for 64 px" in larger.engine.remarks[0]
    assert own.engine.remarks == ()
    assert found.thresholds.calibration == "uncalibrated"
    again = blemish.load("tiny", input_px=64)
    assert again.model == larger.model
    np.testing.assert_array_equal(again.inspect(IMAGE).anomaly_map, found.anomaly_map)


def test_the_backbones_own_input_by_its_number_changes_nothing() -> None:
    own, named = blemish.load("tiny"), blemish.load("tiny", input_px=32)
    assert (named.model, named.setup) == (own.model, own.setup)


def test_an_input_that_the_backbone_does_not_take_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"an input of 60 px does not suit the backbone tiny: .* the nearest: 56 and 64"
    ):
        blemish.load("tiny", input_px=60)


@pytest.mark.parametrize(("method", "options"), [("faprompt", {"patches": 4}), ("dapo", {}), ("multiads", {})])
def test_prompts_serve_every_input_size(tmp_path: Path, method: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    write_prompts(tmp_path, build(method, Clip(TINY), options), {})
    for input_px in (32, 64, 96):
        found = blemish.load("tiny", prompts=tmp_path, input_px=input_px).inspect(IMAGE)
        assert found.anomaly_map.shape == (input_px, input_px)
        assert np.isfinite(found.anomaly_map).all()
        assert found.type_maps is not None
        assert found.type_maps.shape[1:] == (input_px // 8, input_px // 8)


def test_features_of_another_input_are_kept_apart(tmp_path: Path) -> None:
    folders = {
        feature_store(load_method("tiny", input_px=px).method, dtype="float32", root=tmp_path).folder
        for px in (None, 32, 64)
    }
    assert len(folders) == 2


def test_a_method_without_prompts_for_the_backbone_says_how_to_get_some() -> None:
    with pytest.raises(
        UsageError, match=r"needs trained prompts, and none ship for tiny: .*--prompts.*import.*blemish train"
    ):
        blemish.load("tiny", method="faprompt")


def test_prompts_for_a_deeper_text_tower_do_not_fit(tmp_path: Path) -> None:
    folder = trained(tmp_path / "p", patches=4)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["options"]["deep_blocks"] = [2, 9]
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match=r"do not fit the backbone tiny: deep_blocks \[2, 9\]"):
        blemish.load("tiny", prompts=folder)


def test_shipped_prompts_are_found_by_the_name_that_the_list_shows() -> None:
    assert read_prompts(find_prompts("embedded/faprompt")).method == "faprompt"
    with pytest.raises(ModelError, match="no such file"):
        find_prompts("embedded/../faprompt")
