"""The recipe of the embedded model: what it aims at, and that a kill changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish.clip.model import Clip
from blemish.clip.tokenizer import tokenize
from blemish.data.synthetic import NORMAL, defect_types
from blemish.errors import UsageError

sys.path.insert(0, str(Path(__file__).parents[2]))

from training.embedded import joint
from training.embedded.checkpoint import load_checkpoint, minutes_spent, save_checkpoint
from training.embedded.config import BACKBONE, Recipe
from training.embedded.samples import TYPES


class FewSamples:
    """Eight random pictures, every second with a square for a defect."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (8, 224, 224, 3), np.uint8)
        self.types = np.array([0, 1, 0, 2, 0, 3, 0, 4])
        self.masks = np.zeros((8, 224, 224), bool)
        self.masks[self.types > 0, 40:80, 60:110] = True

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.images[indices], self.masks[indices], self.types[indices]


def test_class_indices_follow_the_renderer() -> None:
    assert (NORMAL, *defect_types()) == TYPES


def test_places_that_a_defect_only_touches_do_not_count() -> None:
    masks = torch.zeros(1, 224, 224, dtype=torch.bool)
    masks[0, 0:8, 0:8] = True  # the first place, filled
    masks[0, 0:8, 8] = True  # one column of its neighbour, an eighth of it
    anomalous, counts = joint.place_targets(masks)
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
    good = joint.alignment(right, texts, **common)
    bad = joint.alignment(right.flip(1), texts, **common)
    assert all(good[name] < 0.05 for name in good)
    assert sum(bad.values()) > 10 * sum(good.values())


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    path = tmp_path / "local.pt"
    assert load_checkpoint(path, layer, optimiser, recipe=Recipe()) == (0, 0.0)
    save_checkpoint(path, layer, optimiser, step=5, seconds=90.0, recipe=Recipe())
    assert load_checkpoint(path, layer, optimiser, recipe=Recipe()) == (5, 90.0)
    assert minutes_spent(tmp_path) == 1.5
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
    losses, calls = joint._losses, []

    def killed_at_the_third(*arguments: object, **options: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return losses(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(joint, "_losses", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed")
    resumed = trained(tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
