"""Our towers and tokenizer against what the official implementations compute (full sets and reduced copies)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import FOLDER, HERE, GoldenSet, load, relative_error, sets
from reduce import derived_patch_features

from blemish.backbones.config import PreprocessConfig
from blemish.backbones.layers import BeforeBlock
from blemish.backbones.preprocess import resize, to_array
from blemish.backbones.tokenizer import tokenize
from blemish.backbones.vision import VisionFeatures, interpolate_positions
from blemish.images import read
from blemish.methods.dapo import progressive

FORWARD_FAPROMPT = 1e-5
FORWARD_DAPO = 5e-6
# Both were rounded to 16 significant bits; where they lie on two sides of a boundary, they are one unit of these apart.
ROUNDED = 2.0**-15
ALPHA = 0.01  # DAPO's
DEEP_FROM_BLOCK = 2  # FAPrompt's deep tokens, 1-based


@pytest.fixture(params=sets("dapo"))
def dapo(request: pytest.FixtureRequest) -> GoldenSet:
    return load(request.param)


@pytest.fixture(params=sets("faprompt"))
def faprompt(request: pytest.FixtureRequest) -> GoldenSet:
    return load(request.param)


# DAPO


def test_dapo_patch_tokens_at_every_level_and_image_features(dapo: GoldenSet) -> None:
    tower = dapo.image_tower()
    keys = [re.fullmatch(r"patch_tokens_layer(\d+)", key) for key in dapo.values]
    levels = sorted(int(match[1]) for match in keys if match)
    assert levels
    tokens = dapo.weights["visual_prompt.learnable_visual_tokens"]

    features = tower(
        dapo.values["image"],
        levels=levels,
        before_block=progressive(tokens, ALPHA),
    )

    for level in levels:
        seen = features.levels[level]
        without = torch.cat([seen[:, :1], seen[:, 1 + tokens.shape[1] :]], dim=1)
        dapo.check(f"patch_tokens_layer{level}", without, tolerance=FORWARD_DAPO)
    dapo.check("image_features", tower.project(features.tokens[:, 0]), tolerance=FORWARD_DAPO)


def test_dapo_text_features_with_progressive_tokens_and_the_release_pooling(dapo: GoldenSet) -> None:
    prompts = dapo.values["prompt_embeddings"]  # [1+K, E, S, W]
    end = dapo.values["template_tokens"].argmax(dim=-1)  # of the sequence before the insertion, as released
    embedded = dapo.text_tower()(
        prompts.flatten(0, 1),
        pool_at=end,
        before_block=progressive(dapo.numbered("prompt_learner.learnable_layer_tokens."), ALPHA, drop=True),
        causal=False,
    )
    dapo.check("text_features", embedded.reshape(*prompts.shape[:2], -1).mean(dim=1), tolerance=FORWARD_DAPO)


def test_dapo_templates_have_the_reference_ids(dapo: GoldenSet) -> None:
    normal_length, abnormal_length, groups = dapo.metadata["counts"][:3]
    texts = ["X " * normal_length + "flawless object"]
    texts += ["X " * abnormal_length + f"{state} anomaly object" for state in dapo.metadata["states"]]
    ids = np.repeat(tokenize(texts), groups, axis=0)
    assert np.array_equal(ids, dapo.values["template_tokens"].numpy())


# FAPrompt


def overwriting(deep: torch.Tensor) -> BeforeBlock:
    """Positions 1 to n of the blocks from `DEEP_FROM_BLOCK` on become these tokens [d, n, W], rounded to float16."""

    def before_block(index: int, x: torch.Tensor) -> torch.Tensor:
        if not 0 <= index + 1 - DEEP_FROM_BLOCK < len(deep):
            return x
        tokens = deep[index + 1 - DEEP_FROM_BLOCK].half().float().expand(len(x), -1, -1)
        return torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], dim=1)

    return before_block


def encode_faprompt(golden: GoldenSet) -> VisionFeatures:
    """The features of the two images of `enc/*`, from the recorded source pixels on."""
    tower = golden.image_tower()
    preprocess = PreprocessConfig(size=golden.values["preproc/resized_uint8_img0"].shape[0])
    images = torch.stack(
        [torch.from_numpy(to_array(read(source_pixels(golden, index)), preprocess)) for index in (0, 3)]
    )
    depth = int(golden.values["enc/n_dual_blocks"])
    levels = sorted({int(match[1]) for key in golden.values if (match := re.match(r"enc/block(\d+)_", key))})
    return tower(images, levels=levels, value_value_depth=depth, interpolation="bilinear")


def test_faprompt_image_tower_at_every_recorded_block_of_both_paths(faprompt: GoldenSet) -> None:
    tower = faprompt.image_tower()
    features = encode_faprompt(faprompt)
    assert features.value_value is not None

    raw = tower.project(features.value_value).transpose(0, 1)  # [B, 1+N, D] -> [1+N, B, D]
    cls = tower.project(features.tokens[:, 0], norm=False)
    faprompt.check("enc/cls_proj_raw", cls, tolerance=FORWARD_FAPROMPT)
    faprompt.check("enc/patch_proj_raw_every10", raw[::10], tolerance=FORWARD_FAPROMPT)
    checked = 0
    for key in faprompt.values:
        match = re.fullmatch(r"enc/block(\d+)_(vv|ori|single)_path_every50", key)
        if match:
            kept = features.value_value_levels if match[2] == "vv" else features.levels
            faprompt.check(key, kept[int(match[1])].transpose(0, 1)[::50], tolerance=FORWARD_FAPROMPT)
            checked += 1
    assert checked


def test_faprompt_positions_are_interpolated_bilinearly(faprompt: GoldenSet) -> None:
    tower = faprompt.image_tower()
    side = round((len(faprompt.values["enc/pos_embed_interp"]) - 1) ** 0.5)
    positions = interpolate_positions(tower.position_embedding, (side, side), interpolation="bilinear")
    faprompt.check("enc/pos_embed_interp", positions, tolerance=FORWARD_FAPROMPT)


def test_faprompt_preprocessing_is_pixel_for_pixel_the_reference(faprompt: GoldenSet) -> None:
    if faprompt.reduced:
        pytest.skip(f"{faprompt.name}: the pictures are in the full golden set, here is the reduced copy")
    for index in (0, 3):
        expected = faprompt.values[f"preproc/resized_uint8_img{index}"].numpy()
        pixels = source_pixels(faprompt, index)
        assert np.array_equal(resize(pixels, len(expected)), expected)

    tensor = torch.from_numpy(to_array(read(source_pixels(faprompt, 3)), PreprocessConfig(size=len(expected))))
    faprompt.check("preproc/tensor_img3_rows0_8", tensor[:, :8], tolerance=FORWARD_FAPROMPT)
    faprompt.check("preproc/tensor_img3_mean", tensor.mean(dim=(1, 2)), tolerance=FORWARD_FAPROMPT)


def source_pixels(golden: GoldenSet, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture that the reference's data set has at this place."""
    relative = str(golden.values[f"testA/img{index}/rel"])
    return golden.values["images/" + relative.replace("/", "__")].numpy()


def test_reduced_copies_hold_the_values_of_the_full_sets() -> None:
    pairs = [(path, full) for path in HERE.glob("*.npz") for full in FOLDER.glob(f"{path.stem}.values.*")]
    if not pairs:
        pytest.skip(f"no full golden sets in {FOLDER} (set BLEMISH_GOLDEN)")
    for path, full in pairs:
        ours, theirs = load(path), load(full)
        shared = [key for key in ours.values if key in theirs.values]
        assert len(shared) > 30
        assert all(np.array_equal(np.asarray(ours.values[key]), np.asarray(theirs.values[key])) for key in shared)
        assert all(torch.equal(ours.weights[key], theirs.weights[key]) for key in ours.weights)
        assert all(torch.equal(ours.clip[key], theirs.clip[key]) for key in ours.clip if "token_emb" not in key)
        for key, features in derived_patch_features(theirs).items() if path.stem.startswith("faprompt") else ():
            assert relative_error(ours.values[key], torch.from_numpy(features)) <= FORWARD_FAPROMPT + ROUNDED


@pytest.mark.parametrize("kind", ["pos", "neg"])
def test_faprompt_text_of_the_first_training_step(faprompt: GoldenSet, kind: str) -> None:
    embedded = faprompt.text_tower()(
        faprompt.values[f"train/step0/prompts_{kind}"],
        pool_at=faprompt.values[f"tokens/{kind}"]
        .argmax(dim=-1)
        .expand(len(faprompt.values[f"train/step0/prompts_{kind}"])),
        before_block=overwriting(faprompt.numbered("prompt_init/compound_prompts_text.")),
    )
    faprompt.check(f"train/step0/stage1_text_{kind}_raw", embedded, tolerance=FORWARD_FAPROMPT)


def test_faprompt_text_of_every_test_image_with_wide_prompts_and_its_prior(faprompt: GoldenSet) -> None:
    tower = faprompt.text_tower()
    deep = faprompt.numbered("prompt_wide/compound_prompts_text.")
    checked = 0
    for key in faprompt.values:
        match = re.fullmatch(r"(test[BC].*/img\d+)/prior", key)
        if not match:
            continue
        ids, context = faprompt.values["tokens/neg"].long(), faprompt.weights["prompt_wide/ctx_neg"][0]  # [K, E', D]
        normal = faprompt.weights["prompt_wide/ctx_pos"][0].expand(len(context), -1, -1)
        first_own = 1 + normal.shape[1]
        words = tower.embed(ids.expand(len(context), -1))
        prompts = torch.cat(
            [words[:, :1], normal, context + faprompt.values[key], words[:, first_own + context.shape[1] :]], dim=1
        )
        embedded = tower(
            prompts,
            pool_at=ids.argmax(dim=-1).expand(len(context)),
            before_block=overwriting(deep),
        )
        faprompt.check(f"{match[1]}/stage2_text_neg_raw", embedded, tolerance=FORWARD_FAPROMPT)
        checked += 1
    assert checked


def test_faprompt_templates_have_the_reference_ids(faprompt: GoldenSet) -> None:
    normal = faprompt.weights["prompt_init/ctx_pos"].shape[2]
    own = faprompt.weights["prompt_init/ctx_neg"].shape[2]
    texts = ["N " * normal + "object.", "N " * normal + "A " * own + "damaged object."]
    ids = tokenize(texts)
    assert np.array_equal(ids[:1], faprompt.values["tokens/pos"].numpy())
    assert np.array_equal(ids[1:], faprompt.values["tokens/neg"].numpy())


def test_crane_checkpoint_has_the_ids_of_its_templates() -> None:
    path = FOLDER / "crane" / "prompts_trained_on_mvtec.pth"
    if not path.exists():
        pytest.skip(f"no {path} (set BLEMISH_GOLDEN)")
    prompts = torch.load(path, map_location="cpu", weights_only=True)["prompt_learner"]
    ids = tokenize(["X " * 12 + "object.", "X " * 12 + "damaged object."])
    assert np.array_equal(ids[0], prompts["tokenized_prompts_pos"].flatten().numpy())
    assert np.array_equal(ids[1], prompts["tokenized_prompts_neg"].flatten().numpy())


def test_reduced_copies_stay_small() -> None:
    assert sum(path.stat().st_size for path in HERE.glob("*.npz")) <= 9_000_000
