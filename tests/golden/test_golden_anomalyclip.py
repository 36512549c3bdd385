"""AnomalyCLIP against what the authors' code computes: both paths, prompts, scores, maps, losses, gradients, Adam steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from golden_sets import GoldenSet, load, relative_error, sets
from torch import Tensor

from blemish.language import general
from blemish.methods.anomalyclip import AnomalyCLIP, AnomalyCLIPConfig, AnomalyCLIPTexts
from blemish.methods.base import Features, Losses, Release, Scores, Targets
from blemish.methods.typed import enlarge_maps, level_logits
from blemish.metrics import aupro, auroc, average_precision
from blemish.training import recipe_of
from blemish.training.optimisers import optimiser_of

FORWARD, LOSS = 5e-6, 2e-6
ROUNDED_GRADIENT, GRADIENT = 1e-3, 1e-5
ROUNDED_STEP, STEP = 1e-5, 1e-6  # absolute; a step of Adam is 1e-3
RUNS = {  # prefix of the recorded training: levels, whether deep tokens are rounded
    "train": ("last", True),
    "train_levels": ("backbone", True),
    "train_unrounded": ("last", False),
}


@pytest.fixture(params=sets("anomalyclip"), scope="module")
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    path: Path = request.param
    return load(path)


def released(state: dict[str, Tensor]) -> Release:
    release = AnomalyCLIP.from_release(state)
    assert release is not None
    return release


def method_of(golden: GoldenSet, *, levels: str = "last", rounded: bool = True) -> AnomalyCLIP:
    """The method with the set's prompts, read as an official checkpoint."""
    shape = golden.metadata
    clip = golden.backbone(
        levels=shape["levels"], value_value_depth=shape["dual_blocks"], deep_text_blocks=shape["deep_blocks"]
    )
    release = released(golden.weights)
    options, parts = release.options, release.parts
    smoothing = shape["sigma"] / shape["patch"]
    method = AnomalyCLIP(
        clip, AnomalyCLIPConfig(**options | {"levels": levels, "round_deep_tokens": rounded, "smoothing": smoothing})
    )
    method.load_trained(parts)
    return method


def in_our_names(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The recorded tensors behind a prefix as our trained parts."""
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return released(found).parts


def texts_of(method: AnomalyCLIP) -> AnomalyCLIPTexts:
    texts = method.encode_texts(general())
    assert isinstance(texts, AnomalyCLIPTexts)
    return texts


def features_of(golden: GoldenSet, method: AnomalyCLIP, step: int = 0) -> Features:
    """What the tower gives of a training batch; of a reduced copy's first one what is recorded."""
    if golden.has_image_tower:
        return method.encode(golden.values[f"image_step{step}"])
    levels = golden.metadata["levels"] if method.config.levels == "backbone" else golden.metadata["levels"][-1:]
    patches = [golden.values[f"patch_features_layer{level}"][:, 1:] for level in levels]
    side = round(patches[0].shape[1] ** 0.5)
    return Features(
        F.normalize(golden.values["image_features"], dim=-1),
        tuple(F.normalize(level, dim=-1) for level in patches),
        (side, side),
    )


def scored(golden: GoldenSet, method: AnomalyCLIP) -> Scores:
    golden.need_image_tower()
    with torch.inference_mode():
        return method.score(method.encode(golden.values["test.image"]), texts_of(method))


def test_the_release_s_counts_and_the_tokens_of_both_templates(golden: GoldenSet) -> None:
    method = method_of(golden)
    context, deep = golden.metadata["counts"]
    assert (method.config.context_tokens, method.config.deep_tokens) == (context, deep)
    assert method.deep_blocks == tuple(golden.metadata["deep_blocks"])
    used = ("ctx_", "compound_prompts_text")
    recorded = [tensor for key, tensor in golden.weights.items() if key.split(".", 1)[1].startswith(used)]
    assert sum(part.numel() for part in method.trained_parts().values()) == sum(part.numel() for part in recorded)
    assert torch.equal(method.template().ids, golden.values["prompt_tokens"])
    for row, state in enumerate(("pos", "neg")):
        start = golden.weights[f"prompt_learner.token_prefix_{state}"][0, 0]
        rest = golden.weights[f"prompt_learner.token_suffix_{state}"][0, 0]
        assert torch.equal(method.template().embedded[row, :1], start)
        assert torch.equal(method.template().embedded[row, 1 + context :], rest)


def test_both_streams_and_the_features_of_every_level(golden: GoldenSet) -> None:
    golden.need_image_tower()
    method = method_of(golden, levels="backbone")
    levels, tower = golden.metadata["levels"], method.backbone.image
    images = golden.values["image_step0"]
    with torch.inference_mode():
        seen = tower(images, levels=levels, value_value_depth=golden.metadata["dual_blocks"], interpolation="bilinear")
        for level in levels:
            golden.check(f"tokens_layer{level}", seen.levels[level], tolerance=FORWARD)
            golden.check(f"vv_tokens_layer{level}", seen.value_value_levels[level], tolerance=FORWARD)
            projected = tower.project(seen.value_value_levels[level])
            golden.check(f"patch_features_layer{level}", projected, tolerance=FORWARD)
        golden.check("image_features", tower.project(seen.tokens[:, 0], norm=False), tolerance=FORWARD)
        features = method.encode(images)
    recorded = F.normalize(golden.values["image_features"], dim=-1)
    assert relative_error(features.global_feature, recorded) <= FORWARD
    for level, patches in zip(levels, features.levels, strict=True):
        recorded = F.normalize(golden.values[f"patch_features_layer{level}"][:, 1:], dim=-1)
        assert relative_error(patches, recorded) <= FORWARD


@pytest.mark.parametrize("rounded", [True, False])
def test_prompts_and_text_features(golden: GoldenSet, rounded: bool) -> None:
    method = method_of(golden, rounded=rounded)
    with torch.inference_mode():
        assert torch.equal(method.embed_prompts(), golden.values["prompt_embeddings"])
        key = "text_features" if rounded else "train_unrounded.step0.text_features"
        golden.check(key, method.embed_states(), tolerance=FORWARD)


def test_logits_and_probability_maps_of_every_level(golden: GoldenSet) -> None:
    method = method_of(golden, levels="backbone")
    with torch.inference_mode():
        features, states = features_of(golden, method), texts_of(method).states
        golden.check("logits", method.image_logits(features, states), tolerance=FORWARD)
        logits = level_logits(features.levels, states, grid=features.grid, temperature=method.config.temperature)
        size = tuple(golden.values["mask_step0"].shape[-2:])
        for level, of_level in zip(golden.metadata["levels"], logits, strict=True):
            probabilities = of_level.softmax(1)  # [B, 2, h, w]
            golden.check(
                f"patch_probabilities_layer{level}", probabilities.flatten(2).transpose(1, 2), tolerance=FORWARD
            )
            enlarged = enlarge_maps(probabilities, size, align_corners=False)
            golden.check(f"probability_map_layer{level}", enlarged, tolerance=FORWARD)


@pytest.mark.parametrize("levels", ["last", "backbone"])
def test_scores_and_maps(golden: GoldenSet, levels: str) -> None:
    method = method_of(golden, levels=levels)
    prefix = "test" if levels == "last" else "test_levels"
    count = 1 if levels == "last" else len(golden.metadata["levels"])  # the release adds the levels up
    scores = scored(golden, method)
    golden.check(f"{prefix}.image_score", scores.image_score, tolerance=FORWARD)
    golden.check(f"{prefix}.anomaly_map", scores.anomaly_map * count, tolerance=FORWARD)
    object.__setattr__(method.config, "smoothing", 0.0)
    golden.check(f"{prefix}.map_before_smoothing", scored(golden, method).anomaly_map * count, tolerance=FORWARD)


@pytest.mark.parametrize("levels", ["last", "backbone"])
def test_the_release_s_own_metrics(golden: GoldenSet, levels: str) -> None:
    scores = scored(golden, method_of(golden, levels=levels))
    labels, masks = golden.values["test.label"].numpy(), golden.values["test.mask"][:, 0].numpy()
    maps = scores.anomaly_map.numpy()
    found = (
        auroc(scores.image_score.numpy(), labels),
        average_precision(scores.image_score.numpy(), labels),
        auroc(maps, masks),
        aupro(list(maps), list(masks), legacy_steps=200),
    )
    recorded = golden.values["test.metrics" if levels == "last" else "test_levels.metrics"]
    for ours, theirs, tolerance in zip(found, recorded, (1e-9, 1e-9, 1e-4, 1e-2), strict=True):
        assert ours.value == pytest.approx(float(theirs), abs=tolerance)


@pytest.mark.parametrize("run", RUNS)
def test_losses_gradients_and_two_adam_steps(golden: GoldenSet, run: str) -> None:
    levels, rounded = RUNS[run]
    method = method_of(golden, levels=levels, rounded=rounded)
    optimiser = optimiser_of(recipe_of("anomalyclip"), method.trained_parts().values())
    for step in (0, 1) if golden.has_image_tower else (0,):
        losses = loss_of(golden, method, step)
        prefix = f"{run}.step{step}."
        local = sum(losses.terms[name] for name in ("focal", "dice_abnormal", "dice_normal"))
        if f"{prefix}loss_total" in golden.values:
            recorded = golden.values[f"{prefix}loss_parts"].sum(0)
            for index, name in enumerate(("focal", "dice_abnormal", "dice_normal")):
                assert relative_error(losses.terms[name], recorded[index]) <= LOSS, name
            golden.check(f"{prefix}loss_image", losses.terms["image_cross_entropy"], tolerance=LOSS)
            golden.check(f"{prefix}loss_local", method.config.local_loss * local, tolerance=LOSS)
            golden.check(f"{prefix}loss_total", losses.total, tolerance=LOSS)
        optimiser.zero_grad()
        losses.total.backward()
        gradients = in_our_names(golden.values, f"{prefix}grad.")
        after = in_our_names(golden.values, f"{prefix}after.")
        for name, part in method.trained_parts().items():
            assert part.grad is not None
            error = relative_error(part.grad, gradients[name])
            assert error <= (ROUNDED_GRADIENT if rounded else GRADIENT), f"{prefix} gradient of {name}: {error:.2e}"
        optimiser.step()
        for name, part in method.trained_parts().items():
            error = float((part.detach() - after[name]).abs().max())
            assert error <= (ROUNDED_STEP if rounded else STEP), f"{prefix} {name} after the step: {error:.2e} apart"


def loss_of(golden: GoldenSet, method: AnomalyCLIP, step: int) -> Losses:
    values = golden.values
    targets = Targets(label=values[f"label_step{step}"], mask=values[f"mask_step{step}"].float())
    return method.loss(features_of(golden, method, step), targets, general())
