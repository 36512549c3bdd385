"""WinCLIP against what three public implementations compute: texts, windows, zero-shot and few-shot scores and maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_sets import GoldenSet, load, relative_error, sets
from torch import Tensor

from blemish.backbones.fast import image_features
from blemish.backbones.tokenizer import tokenize
from blemish.backbones.vision import Embedding
from blemish.backbones.windows import embed_windows, window_patches
from blemish.methods.base import Features
from blemish.methods.good_references import GoodReferences, distance_to_nearest
from blemish.methods.winclip import RELEASES, WinCLIP, WinCLIPConfig, WinCLIPTexts, phrases

TOLERANCE = 5e-6
OWN_REFERENCE = 1e-6  # absolute: the distances of an image to itself are 0 up to rounding


@pytest.fixture(params=sets("winclip"))
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    return load(request.param)


def method_of(golden: GoldenSet, release: str = "anomalib", **options: Any) -> WinCLIP:
    stated = {name: golden.metadata[name] for name in ("temperature", "scales")}
    stated |= {"object_name": golden.metadata["class_name"]} | RELEASES[release]
    grid, patch_px = grid_of(golden)[0], golden.clip["visual.conv1.weight"].shape[-1]
    clip = golden.backbone(preprocess={"size": grid * patch_px})
    return WinCLIP(clip, WinCLIPConfig(**{**stated, **options}))


def texts_of(golden: GoldenSet, release: str = "anomalib", **options: Any) -> WinCLIPTexts:
    texts = method_of(golden, release, **options).encode_texts()
    assert isinstance(texts, WinCLIPTexts)
    return texts


def grid_of(golden: GoldenSet) -> tuple[int, int]:
    rows, columns = golden.values["zero.map"].shape[1:]
    return rows, columns


def recorded_features(golden: GoldenSet, *, raw: bool = False) -> Features:
    """The features of the images as recorded, whatever our tower makes of them."""
    values = golden.values
    patches = values["patch_tokens_raw" if raw else "patch_embeddings"]
    levels = [patches, *(values[f"window_embeddings_scale{side}"] for side in golden.metadata["scales"])]
    return Features(
        global_feature=F.normalize(values["image_embeddings"], dim=-1),
        levels=tuple(F.normalize(level, dim=-1) for level in levels),
        grid=grid_of(golden),
    )


def recorded_references(golden: GoldenSet) -> GoodReferences:
    values = golden.values
    levels = [values["reference_patch_embeddings"]]
    levels += [values[f"reference_window_embeddings_scale{side}"] for side in golden.metadata["scales"]]
    return GoodReferences(tuple(F.normalize(level, dim=-1).flatten(0, 1) for level in levels), "recorded")


@torch.inference_mode()
def test_prompts_have_the_recorded_ids_and_texts(golden: GoldenSet) -> None:
    method = method_of(golden)
    for state in ("normal", "abnormal"):
        texts = [text.replace("{}", golden.metadata["class_name"]) for text in phrases(state, method.config)]
        assert sorted(texts) == sorted(golden.metadata[state])
        ids = torch.from_numpy(tokenize(golden.metadata[state]))
        assert torch.equal(ids, golden.values[f"tokens_{state}"].to(ids.dtype))
        golden.check(f"text_{state}", method.backbone.text.encode(ids), tolerance=TOLERANCE)
    directions = torch.stack([method.state_direction(state) for state in ("normal", "abnormal")])
    golden.check("text_embeddings", directions, tolerance=TOLERANCE)


@torch.inference_mode()
def test_windows_of_dropped_tokens_from_the_recorded_stream(golden: GoldenSet) -> None:
    tower, grid = golden.image_tower(), grid_of(golden)
    embedding = Embedding(tokens=tower.ln_pre(golden.values["embedded"]), grid=grid)
    for side in golden.metadata["scales"]:
        assert torch.equal(window_patches(grid, side).T.int(), golden.values[f"windows_scale{side}"])
        ours = embed_windows(tower, embedding, side=side)
        golden.check(f"window_embeddings_scale{side}", ours, tolerance=TOLERANCE)
    tokens = image_features(tower, embedding).tokens
    golden.check("image_embeddings", tower.project(tokens[:, 0]), tolerance=TOLERANCE)
    golden.check("patch_embeddings", tower.last_norm(tokens[:, 1:]), tolerance=TOLERANCE)


@torch.inference_mode()
def test_features_from_the_images_on(golden: GoldenSet) -> None:
    if golden.reduced:
        pytest.skip(f"{golden.name}: the images are in the full golden set, here is the reduced copy")
    for release in ("anomalib", "Accurate-WinCLIP"):
        features = method_of(golden, release).encode(golden.values["image"])
        recorded = recorded_features(golden, raw=release != "anomalib")
        assert relative_error(features.global_feature, recorded.global_feature) <= TOLERANCE
        for ours, theirs in zip(features.levels, recorded.levels, strict=True):
            assert relative_error(ours, theirs) <= TOLERANCE


@torch.inference_mode()
def test_zero_shot_scores_and_maps(golden: GoldenSet) -> None:
    method, texts, features = method_of(golden), texts_of(golden), recorded_features(golden)
    for level, side in enumerate(golden.metadata["scales"], start=1):
        probability = method.probability(features.levels[level], texts.states)
        golden.check(f"zero.window_scores_scale{side}", probability, tolerance=TOLERANCE)
        window_map = method.window_map(probability, side, features.grid)
        golden.check(f"zero.map_scale{side}", window_map, tolerance=TOLERANCE)
    image_score, grid_map = method.zero_shot(features, texts)
    golden.check("zero.map", grid_map, tolerance=TOLERANCE)
    golden.check("zq.zero.map", grid_map, tolerance=TOLERANCE)
    golden.check("zq.zero.image_score", image_score, tolerance=TOLERANCE)
    scores = method.score(features, texts)
    golden.check("zero.image_score", scores.image_score, tolerance=TOLERANCE)
    golden.check("zero.anomaly_map", scores.anomaly_map, tolerance=TOLERANCE)


@torch.inference_mode()
def test_few_shot_scores_and_maps(golden: GoldenSet) -> None:
    method, texts, features = method_of(golden), texts_of(golden), recorded_features(golden)
    method.memory = recorded_references(golden)
    patches = method.memory.distances(0, features.levels[0]) / 2
    golden.check("few.association_patch", patches.unflatten(1, features.grid), tolerance=TOLERANCE)
    for level, side in enumerate(golden.metadata["scales"], start=1):
        windows = method.memory.distances(level, features.levels[level]) / 2
        golden.check(f"few.window_association_scale{side}", windows, tolerance=TOLERANCE)
        window_map = method.window_map(windows, side, features.grid)
        golden.check(f"few.map_scale{side}", window_map, tolerance=TOLERANCE)
    distances = method.distance_map(features)
    golden.check("few.association_map", distances, tolerance=TOLERANCE)
    golden.check("few.map", (method.zero_shot(features, texts)[1] + distances) / 2, tolerance=TOLERANCE)
    scores = method.score(features, texts)
    golden.check("few.image_score", scores.image_score, tolerance=TOLERANCE)
    golden.check("few.anomaly_map", scores.anomaly_map, tolerance=TOLERANCE)


@torch.inference_mode()
def test_few_shot_from_the_images_on_with_patches_before_and_after_the_norm(golden: GoldenSet) -> None:
    if golden.reduced:
        pytest.skip(f"{golden.name}: the images are in the full golden set, here is the reduced copy")
    values = golden.values
    for release in ("anomalib", "Accurate-WinCLIP"):
        method = method_of(golden, release).with_references(values["reference"].split(1))
        assert method.good_references.startswith(f"{len(values['reference'])} good images (")
        features, texts = method.encode(values["image"]), texts_of(golden, release)
        scores = method.score(features, texts)
        if release == "anomalib":
            golden.check("few.anomaly_map", scores.anomaly_map, tolerance=TOLERANCE)
            golden.check("few.image_score", scores.image_score, tolerance=TOLERANCE)
            continue
        distances = method.distance_map(features)
        golden.check("zq.few.association_map", distances, tolerance=TOLERANCE)
        golden.check("zq.few.map", method.zero_shot(features, texts)[1] + distances, tolerance=TOLERANCE)
        golden.check("zq.few.image_score", scores.image_score, tolerance=TOLERANCE)


@torch.inference_mode()
def test_an_image_that_is_its_own_reference_is_at_distance_0(golden: GoldenSet) -> None:
    method, texts = method_of(golden), texts_of(golden)
    features = recorded_features(golden)
    first = Features(features.global_feature[:1], tuple(level[:1] for level in features.levels), features.grid)
    method.memory = GoodReferences(tuple(level[0] for level in first.levels), "itself")
    distances = method.distance_map(first)
    assert float(distances.min()) >= 0
    assert float((distances - golden.values["self.association_map"]).abs().max()) <= OWN_REFERENCE
    scores = method.score(first, texts)
    golden.check("self.image_score", scores.image_score, tolerance=TOLERANCE)
    golden.check("self.anomaly_map", scores.anomaly_map, tolerance=TOLERANCE)


@torch.inference_mode()
def test_the_options_of_caoyunkang(golden: GoldenSet) -> None:
    """But for two slips: zero-shot maps are halved there, and the first window of the second scale is compared with the
    references' windows of the first."""
    method, texts = method_of(golden, "caoyunkang"), texts_of(golden, "caoyunkang")
    features, values, grid = recorded_features(golden), golden.values, grid_of(golden)
    assert relative_error(texts.states, values["cao.text_features"]) <= TOLERANCE
    _, textual = method.zero_shot(features, texts)
    expected = values["cao.textual_map"]
    assert relative_error(textual, expected) <= TOLERANCE
    scores = method.score(features, texts)
    check_enlarged(golden, "cao.zero.anomaly_map", textual / 2)
    assert torch.equal(scores.image_score, scores.anomaly_map.amax((1, 2)))

    references = recorded_references(golden)
    maps = []
    for level, side in enumerate(golden.metadata["scales"], start=1):
        windows = references.distances(level, features.levels[level]) / 2
        if level > 1:
            windows[:, 0] = distance_to_nearest(features.levels[level][:, :1], references.levels[level - 1])[:, 0] / 2
        maps.append(method.window_map(windows, side, grid, harmonic=False))
    visual = torch.stack(maps).mean(0)
    assert relative_error(visual, values["cao.visual_map"]) <= TOLERANCE
    few = 1 / (1 / textual + 1 / visual)
    check_enlarged(golden, "cao.few.anomaly_map", few)
    method.memory = references
    ours = method.score(features, texts).anomaly_map / 2  # without the second slip: the same away from that window
    away = slice((golden.metadata["scales"][-1] + 1) * method.backbone.config.vision.patch_px, None)
    theirs = enlarged(few, ours.shape[-2:])
    assert relative_error(ours[:, away], theirs[:, away]) <= TOLERANCE


def check_enlarged(golden: GoldenSet, key: str, maps: Tensor) -> None:
    if key in golden.values:  # the reduced copy has them on the grid alone
        golden.check(key, enlarged(maps, golden.values[key].shape[-2:]), tolerance=TOLERANCE)


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


@torch.inference_mode()
def test_the_values_tell_the_variants_apart(golden: GoldenSet) -> None:
    texts, features = texts_of(golden), recorded_features(golden)
    method = method_of(golden)
    expected = golden.values["zero.map"]
    assert relative_error(method.zero_shot(features, texts)[1], expected) <= TOLERANCE
    variants: list[dict[str, Any]] = [
        {"temperature": 0.01},
        {"windows": "normality"},
        {"whole_image": False},
        {"text_mean": "normalised"},
        {"full_stop": False},
        {"templates": "paper"},
        {"underscores": "blank"},
    ]
    for options in variants:
        other = WinCLIP(method.backbone, replace(method.config, **options))
        other_texts = other.encode_texts()
        assert isinstance(other_texts, WinCLIPTexts)
        assert relative_error(other.zero_shot(features, other_texts)[1], expected) > 20 * TOLERANCE, options
