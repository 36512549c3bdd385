"""The recipe of the embedded model: what it aims at, and that a kill changes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish.backbones.model import Clip
from blemish.backbones.tokenizer import tokenize
from blemish.errors import UsageError
from blemish.synthesis import NORMAL, defect_types

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.embedded import joint, losses
from recipes.embedded.checkpoint import load_checkpoint, minutes_spent, save_checkpoint
from recipes.embedded.config import BACKBONE, Recipe
from recipes.embedded.held_out import accuracy_among_ten
from recipes.embedded.samples import TYPES, Batch, render_all
from recipes.embedded.views import chosen, view


class FewSamples:
    """Four random scenes, each good and with a square for a defect."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (8, 224, 224, 3), np.uint8)
        self.types = np.array([0, 1, 0, 2, 0, 3, 0, 4])
        self.masks = np.zeros((8, 224, 224), bool)
        self.masks[self.types > 0, 40:80, 60:110] = True
        self.contrasts = np.array([0, 0.02, 0, 0.05, 0, 0.1, 0, 0.3], np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Batch:
        return Batch(self.images[indices], self.masks[indices], self.types[indices], ("wood",) * len(indices))


def test_class_indices_follow_the_renderer() -> None:
    assert (NORMAL, *defect_types()) == TYPES


def test_places_that_a_defect_only_touches_do_not_count() -> None:
    masks = torch.zeros(1, 224, 224, dtype=torch.bool)
    masks[0, 0:8, 0:8] = True  # the first place, filled
    masks[0, 0:8, 8] = True  # one column of its neighbour, an eighth of it
    anomalous, counts = losses.place_targets(masks)
    assert anomalous.shape == counts.shape == (1, 784)
    assert anomalous[0, 0]
    assert not counts[0, 1] or not anomalous[0, 1]
    assert counts[0, 2:].all()
    assert int(anomalous.sum()) == 1


def test_alignment_is_low_for_features_that_point_at_their_texts() -> None:
    texts = torch.eye(5)  # normal, abnormal, three types
    anomalous = torch.zeros(1, 30, dtype=torch.bool)
    anomalous[0, :25] = True
    right = torch.where(anomalous[..., None], texts[1] + texts[3], texts[0])
    common = {
        "anomalous": anomalous,
        "counts": torch.ones_like(anomalous),
        "types": torch.tensor([2]),
        "temperature": 0.07,
    }
    good = losses.alignment(right, texts, **common)
    bad = losses.alignment(right.flip(1), texts, **common)
    assert all(good[name] < 0.05 for name in good)
    assert sum(bad.values()) > 10 * sum(good.values())


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    path = tmp_path / "local.pt"
    assert load_checkpoint(path, layer, optimiser, recipe=Recipe()) == (0, 0.0)
    save_checkpoint(path, layer, optimiser, step=5, seconds=90.0, recipe=Recipe())
    assert load_checkpoint(path, layer, optimiser, recipe=Recipe()) == (5, 90.0)
    assert minutes_spent([path, path]) == 3.0
    with pytest.raises(UsageError, match="another recipe"):
        load_checkpoint(path, layer, optimiser, recipe=Recipe(seed=1))


@pytest.mark.parametrize("stage", ["local", "joint"])
def test_a_killed_run_goes_on_to_the_same_weights(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(local_steps=3, joint_steps=3, batch=2)
    words = (torch.from_numpy(tokenize(["a scratch", "a good part"] * 4)), torch.eye(BACKBONE.joint_width)[:8])
    monkeypatch.setattr(joint, "SAVE_EVERY", 1)

    def trained(cache: Path) -> Clip:
        cache.mkdir(exist_ok=True)
        torch.manual_seed(0)
        samples = FewSamples()
        return joint.train_images(stage, Clip(BACKBONE), samples=samples, recipe=recipe, cache=cache, texts=words)  # type: ignore[arg-type]

    whole = trained(tmp_path / "whole")
    terms, calls = joint._losses, []

    def killed_at_the_third(*arguments: object, **options: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return terms(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(joint, "_losses", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed")
    resumed = trained(tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    logged = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in logged] == [(stage, 1), (stage, 2), (stage, 3)]
    assert all(line["binary"] > 0 for line in logged)


def test_strong_defects_come_first_and_scenes_in_two_states() -> None:
    samples, recipe = FewSamples(), Recipe(easy_contrast=0.2, easy_share=0.5, batch=40)

    def seen(progress: float) -> set[int]:
        indices = chosen(samples, recipe, np.random.default_rng(0), progress=progress)  # type: ignore[arg-type]
        assert (indices[::2] % 2 == 0).all()
        assert (indices[1::2] == indices[::2] + 1).all()
        return set(indices.tolist())

    assert seen(0.0) == {6, 7}
    assert seen(0.3) == {4, 5, 6, 7}
    assert seen(0.5) == set(range(8))


def test_views_are_squares_of_one_size_whose_masks_follow_the_picture() -> None:
    samples, recipe = FewSamples(), Recipe(sides=(160,), batch=8)
    samples.images[:] = 40
    samples.images[samples.masks] = 230
    seen = view(samples, np.arange(8), recipe, np.random.default_rng(3))  # type: ignore[arg-type]
    assert seen.images.shape == (8, 3, 160, 160)
    assert seen.masks.shape == (8, 160, 160)
    for image, mask in zip(seen.images, seen.masks, strict=True):
        if mask.any():
            assert image[:, mask].mean() > image[:, ~mask].mean() + 0.5


def test_a_caption_is_told_from_those_with_another_defect_or_material() -> None:
    own = torch.eye(4)[:2]
    captions = torch.stack([torch.eye(4), torch.eye(4)[[1, 0, 2, 3]]])
    assert losses.captioned(own, captions, temperature=0.07) < 0.01
    assert losses.captioned(own.flip(0), captions, temperature=0.07) > 5


def test_a_scene_is_rendered_in_two_states(tmp_path: Path) -> None:
    first, second = (
        render_all(tmp_path / name, count=6, first_seed=0, workers=1, pairs=pairs, shard=2)
        for name, pairs in (("pairs", True), ("alone", False))
    )
    assert len(first) == len(second) == 6
    kinds = first.types.reshape(-1, 2)
    assert (kinds[:, 0] != kinds[:, 1]).all()
    seen = first.batch(np.arange(6))
    assert seen.materials[::2] == seen.materials[1::2]
    assert (seen.masks.any((1, 2)) == (first.types > 0)).all()
    assert ((first.contrasts > 0) == (first.types > 0)).all()


def test_each_type_is_asked_about_among_ten_names() -> None:
    torch.manual_seed(0)
    assert 0 <= accuracy_among_ten(Clip(BACKBONE).eval(), FewSamples()) <= 1  # type: ignore[arg-type]
