"""FAPrompt against what the authors' code computes: prompts, both stages, scores, losses, gradients, Adam steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_sets import GoldenSet, load, relative_error, sets
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from blemish.backbones.config import BackboneConfig, PreprocessConfig
from blemish.backbones.model import Clip
from blemish.backbones.preprocess import to_array
from blemish.images import read
from blemish.io.codec import to_dict
from blemish.language import general
from blemish.methods.base import Features, Losses, Scores, Targets
from blemish.methods.faprompt import FAPrompt, FAPromptConfig, FAPromptTexts, Stages
from blemish.methods.losses import dice, focal, focal_with_logits
from blemish.methods.smoothing import smooth_enlarge

FORWARD, UNIT, GRADIENT = 1e-5, 1e-6, 1e-3
RATE = 1e-3
DRAWS = 3  # a single draw of the disturbance may differ by so much from another
PATCH_PX = 14
RUNS = {
    "testA": ("prompt_trained", "released"),
    "testB": ("prompt_wide", "released"),
    "testC": ("prompt_wide", "paper"),
}
PARTS = (  # loss_parts of the golden README, in its order; "pixel" is the sum of the first six, the second stage halved
    "focal1",
    "dice1_abnormal",
    "dice1_normal",
    "focal2",
    "dice2_abnormal",
    "dice2_normal",
    "pixel",
    "image_cross_entropy",
    "image_focal",
    "orthogonality",
    "prior",
)


@pytest.fixture(params=sets("faprompt"), scope="module")
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    path: Path = request.param
    return load(path)


def backbone(golden: GoldenSet) -> Clip:
    """The set's frozen CLIP; from a reduced copy its text tower, with an image tower that nobody asks."""
    text = golden.text_tower()
    cells = round((golden.values["train/step0/patch_features_norm_img0"].shape[0] - 1) ** 0.5)
    vision = {"width": 8, "depth": 1, "heads": 1, "patch_size": PATCH_PX, "position_grid": cells}
    vision["image_size"] = cells * PATCH_PX
    depth, tower = 1, None
    if not golden.reduced:
        tower = golden.image_tower()
        vision, depth = to_dict(tower.config), int(golden.values["enc/n_dual_blocks"])
        vision |= {"image_size": vision["patch_size"] * vision["position_grid"]}
    config = BackboneConfig.from_dict(
        {
            "name": "golden",
            "joint_width": text.projection.shape[1],
            "vision": vision,
            "text": to_dict(text.config),
            "preprocess": {"size": clip_size(golden)},
            "value_value_depth": depth,
        }
    )
    clip = Clip(config)
    clip.text.load_state_dict(text.state_dict())
    if tower is not None:
        clip.image = tower
    return clip


def method_with(golden: GoldenSet, prompts: str, *, selection: str) -> FAPrompt:
    """The method with these prompts of the set, in the released variant but for the selection."""
    weights = {key.removeprefix(f"{prompts}/"): golden.weights[key] for key in golden.weights if prompts in key}
    if not weights:
        pytest.skip(f"{golden.name}: {prompts} is in the full golden set, here is the reduced copy")
    release = FAPrompt.from_release(weights)
    assert release is not None
    clip = backbone(golden)
    options = release.options | {"selection": selection, "image_cross_entropy": True}
    # the official files' M is a number in the code; here the joint width, and so M, may be another
    options["patches"] = weights["patch_meta_net.linear1.weight"].shape[1] // clip.config.joint_width
    method = FAPrompt(clip, FAPromptConfig(**options))
    method.load_trained(release.parts)
    return method


def clip_size(golden: GoldenSet) -> int:
    """The side of the tower's input in pixels."""
    if not golden.reduced:
        return int(golden.values["preproc/resized_uint8_img0"].shape[0])
    return round((len(golden.values["train/step0/patch_features_norm_img0"]) - 1) ** 0.5) * PATCH_PX


def images(golden: GoldenSet, names: list[str]) -> Tensor:
    size = clip_size(golden)
    pixels = [golden.values["images/" + name.replace("/", "__")].numpy() for name in names]
    return torch.stack([torch.from_numpy(to_array(read(array), PreprocessConfig(size=size))) for array in pixels])


# prompts


@pytest.mark.parametrize("kind", ["pos", "neg"])
def test_the_prompts_are_the_reference_s_token_by_token(golden: GoldenSet, kind: str) -> None:
    method = method_with(golden, "prompt_init", selection="released")
    expected = golden.values[f"train/step0/prompts_{kind}"]
    own = method.normal_tokens[None] if kind == "pos" else method.abnormal_tokens
    words = method.normal_words if kind == "pos" else method.abnormal_words
    shared = [method.normal_tokens.expand(len(own), -1, -1)] if kind == "neg" else []
    ours = torch.cat([method.start.expand(len(own), -1, -1), *shared, own, words.expand(len(own), -1, -1)], dim=1)
    golden.check(f"train/step0/prompts_{kind}", torch.cat([ours, expected[:, ours.shape[1] :]], dim=1), tolerance=UNIT)


# training


def training_batch(golden: GoldenSet, step: int) -> tuple[Features, Targets]:
    """The features and targets of a training step: through the image tower, or as recorded in the reduced copy."""
    names = [str(name) for name in golden.values[f"train/step{step}/img_rel"]]
    masks = []
    for name in names:
        mask = golden.values["masks/" + name.replace("/", "__")].numpy() > 0
        size = clip_size(golden)
        resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BILINEAR)
        masks.append(torch.from_numpy((np.asarray(resized) / 255 > 0.5).astype(np.float32)))
    targets = Targets(golden.values[f"train/step{step}/labels"], torch.stack(masks))
    if golden.reduced:
        patches = [recorded_patches(golden, index) for index in range(len(names))]
        cells = round(len(patches[0]) ** 0.5)
        cls = golden.values["train/step0/image_features_norm"]
        return Features(cls, (torch.stack(patches),), (cells, cells)), targets
    with torch.no_grad():
        return method_with(golden, "prompt_init", selection="released").encode(images(golden, names)), targets


def recorded_patches(golden: GoldenSet, index: int) -> Tensor:
    key = f"step0/patch_features_norm_img{index}"
    return golden.values.get(f"train/{key}", golden.values.get(f"derived/{key}"))[1:]


def loss_parts(losses: Losses, method: FAPrompt) -> dict[str, Tensor]:
    parts = {name: term.detach() for name, term in losses.terms.items()}
    first, second = (sum(parts[name] for name in PARTS[part : part + 3]) for part in (0, 3))
    return parts | {"pixel": first + method.config.second_stage * second}


def recorded(golden: GoldenSet, prefix: str) -> dict[str, Tensor]:
    """Parameters, or their gradients, that the reference recorded under this prefix, by our names; empty where there are none."""
    state = {key.removeprefix(prefix): value for key, value in golden.values.items() if key.startswith(prefix)}
    release = FAPrompt.from_release(state)
    return {} if release is None else release.parts


def forward_values(method: FAPrompt, stages: Stages) -> dict[str, Tensor]:
    """What the reference recorded of a training step before its losses, by its names."""
    assert stages.priors is not None
    values = {
        "stage1_text_neg_raw": stages.embeddings,
        "stage1_text_pos_raw": method.embed_normal(),
        "stage1_text_norm": stages.states1[None],
        "stage1_patch_prob_abn": stages.abnormal1,
        "stage2_patch_prob_abn": stages.abnormal2,
        "max1": stages.abnormal1.amax(1),
        "max2": stages.abnormal2.amax(1),
        "text_logits": stages.image_logits,
        "score2": method.image_score(stages),
    }
    for image, prior in enumerate(stages.priors):
        values[f"prior_img{image}"] = prior[None]
        raw = torch.stack([method.embed_normal()[0], method.embed_abnormal(prior[None])[0].mean(0)])
        values[f"stage2_text_raw_img{image}"] = raw
    return {name: value.detach() for name, value in values.items()}


class Training:
    """Adam on a method with the reference's rates; with a disturbance, gradients differ by that share of their largest value."""

    def __init__(self, golden: GoldenSet) -> None:
        self.method = method_with(golden, "prompt_init", selection="released")
        self.optimiser = torch.optim.Adam(self.method.trained_parts().values(), lr=RATE, betas=(0.5, 0.999))
        self.disturbance: dict[str, float] = {}  # by our names of parameters
        self.random = torch.Generator().manual_seed(0)

    def gradients(self, losses: Losses) -> dict[str, Tensor]:
        self.optimiser.zero_grad()
        losses.total.backward()
        parts = self.method.trained_parts()
        return {name: part.grad for name, part in parts.items() if part.grad is not None}

    def step(self) -> None:
        for name, part in self.method.trained_parts().items():
            if part.grad is not None and name in self.disturbance:
                noise = 2 * torch.rand(part.shape, generator=self.random) - 1
                part.grad += self.disturbance[name] * part.grad.abs().max() * noise
        self.optimiser.step()


def test_training_reproduces_every_step_gradient_and_parameter(golden: GoldenSet) -> None:
    """The first step's values, losses and gradients are compared directly. Adam divides a gradient by its size, so what gradients
    differ by, however little, moves parameters by up to the rate a step, and with them all later values. How much, a second
    training tells: its gradients differ from ours by as much as the reference's do in the first step."""
    ours, disturbed = Training(golden), Training(golden)
    steps = 1 + max(int(match[1]) for key in golden.values if (match := re.match(r"train/step(\d+)/total$", key)))
    for step in range(steps):
        features, targets = training_batch(golden, step)
        key = f"train/step{step}"
        values, moved = (forward_values(run.method, run.method.stages(features)) for run in (ours, disturbed))
        for name, value in values.items():
            golden.check(f"{key}/{name}", value, tolerance=FORWARD + DRAWS * relative_error(moved[name], value))
        losses, others = (run.method.loss(features, targets, general()) for run in (ours, disturbed))
        parts, moved = loss_parts(losses, ours.method), loss_parts(others, disturbed.method)
        for name, value in zip(PARTS, golden.values[f"{key}/loss_parts"], strict=True):
            size = max(abs(float(value)), 1e-6)
            error, drift = abs(float(parts[name] - value)) / size, abs(float(parts[name] - moved[name])) / size
            assert error <= FORWARD + DRAWS * drift, (
                f"{golden.name} {key} {name}: {float(parts[name])} instead of {float(value)}"
            )
        gradients = ours.gradients(losses)
        disturbed.gradients(others)
        for name, gradient in recorded(golden, f"{key}/grad/").items():
            error = relative_error(gradients[name], gradient)
            # the reduced copy's features were rounded to 16 bits, which float16 tokens make a little worse
            assert error <= (2 if golden.reduced else 1) * GRADIENT, (
                f"{golden.name} gradient of {name}: {error:.2e} apart"
            )
            disturbed.disturbance[name] = error
        ours.step()
        disturbed.step()
        after = {name: part.detach() for name, part in disturbed.method.trained_parts().items()}
        for name, expected in recorded(golden, f"train/after_step{step}/").items():
            own = ours.method.trained_parts()[name].detach()
            error, drift = relative_error(own, expected), relative_error(after[name], own)
            assert error <= FORWARD + DRAWS * drift, (
                f"{golden.name} {name} after step {step}: {error:.2e}, drift {drift:.2e}"
            )


def test_the_shared_start_gives_the_same_gradients(golden: GoldenSet) -> None:
    """Ours encodes what all prompts share once and does not round; the release rounds prompt by prompt."""
    features, targets = training_batch(golden, 0)
    gradients: list[dict[str, Any]] = []
    for rounded in (True, False):
        method = method_with(golden, "prompt_init", selection="released")
        method.config = FAPromptConfig(**{**vars(method.config), "round_deep_tokens": rounded})
        method.loss(features, targets, general()).total.backward()
        gradients.append({name: part.grad for name, part in method.trained_parts().items()})
    for name in gradients[0]:
        assert relative_error(gradients[1][name], gradients[0][name]) <= 2e-3, name


# test runs


@pytest.mark.parametrize("run", RUNS)
def test_the_test_run_image_by_image(golden: GoldenSet, run: str) -> None:
    prompts, selection = RUNS[run]
    method = method_with(golden, prompts, selection=selection)
    folder = next(key.split("/")[0] for key in golden.values if key.startswith(run))
    if golden.reduced:
        check_recorded_prior(golden, method, folder)
        return
    numbers = sorted(int(match[1]) for key in golden.values if (match := re.fullmatch(rf"{folder}/img(\d+)/rel", key)))
    assert len(numbers) > 1
    for start in range(0, len(numbers), 4):
        batch = numbers[start : start + 4]
        names = [str(golden.values[f"{folder}/img{number}/rel"]) for number in batch]
        with torch.inference_mode():
            features = method.encode(images(golden, names))
            texts = method.encode_texts()
            assert isinstance(texts, FAPromptTexts)
            stages, scores = method.stages(features, texts), method.score(features, texts)
        for row, number in enumerate(batch):
            key = f"{folder}/img{number}"
            check_image(golden, key, row, features=features, stages=stages, scores=scores, method=method)


def check_image(
    golden: GoldenSet, key: str, row: int, *, features: Features, stages: Stages, scores: Scores, method: FAPrompt
) -> None:
    assert stages.priors is not None
    golden.check(f"{key}/image_features_norm", features.global_feature[row][None], tolerance=FORWARD)
    golden.check(f"{key}/stage1_text_norm", stages.states1[None], tolerance=FORWARD)
    golden.check(f"{key}/stage1_patch_prob_abn", stages.abnormal1[row], tolerance=FORWARD)
    golden.check(f"{key}/max1", stages.abnormal1[row].amax()[None], tolerance=FORWARD)
    golden.check(f"{key}/prior", stages.priors[row][None], tolerance=FORWARD)
    golden.check(f"{key}/stage2_text_neg_raw", method.embed_abnormal(stages.priors[row][None])[0], tolerance=FORWARD)
    golden.check(f"{key}/stage2_text_pos_raw", method.embed_normal(), tolerance=FORWARD)
    golden.check(f"{key}/stage2_text_norm", stages.states2[row][None], tolerance=FORWARD)
    golden.check(f"{key}/stage2_patch_prob_abn", stages.abnormal2[row], tolerance=FORWARD)
    golden.check(f"{key}/max2", stages.abnormal2[row].amax()[None], tolerance=FORWARD)
    golden.check(f"{key}/text_prob", stages.image_logits[row].softmax(-1)[1][None], tolerance=FORWARD)
    golden.check(f"{key}/image_score", scores.image_score[row][None], tolerance=FORWARD)
    if f"{key}/patch_features_norm" in golden.values:
        recorded = golden.values[f"{key}/patch_features_norm"][1:]
        assert relative_error(features.levels[-1][row], recorded) <= FORWARD
    if f"{key}/anomaly_map" in golden.values:
        golden.check(f"{key}/anomaly_map", scores.anomaly_map[row][None, None], tolerance=FORWARD)
    else:
        every7 = scores.anomaly_map[row][3::7, 3::7]
        golden.check(f"{key}/anomaly_map_every7", every7, tolerance=FORWARD)
    if "released" not in method.config.selection:
        indices = stages.abnormal1[row].topk(method.config.patches).indices
        assert torch.equal(indices, golden.values[f"{key}/pk_indx"][0])


def check_recorded_prior(golden: GoldenSet, method: FAPrompt, folder: str) -> None:
    """Without an image tower: what the text tower makes of each recorded prior."""
    checked = 0
    for key in [key for key in golden.values if re.fullmatch(rf"{folder}/img\d+/prior", key)]:
        with torch.no_grad():
            embeddings = method.embed_abnormal(golden.values[key])
        golden.check(key.replace("prior", "stage2_text_neg_raw"), embeddings[0], tolerance=FORWARD)
        checked += 1
    assert checked


# units


def test_losses_of_the_unit_cases(golden: GoldenSet) -> None:
    probabilities, truth = golden.values["unit/loss_prob"], golden.values["unit/loss_gt"]
    golden.check("unit/focal", focal(probabilities, truth), tolerance=UNIT)
    golden.check("unit/dice_abn", dice(probabilities[:, 1], truth), tolerance=UNIT)
    golden.check("unit/dice_norm", dice(probabilities[:, 0], 1 - truth), tolerance=UNIT)
    score, label = golden.values["unit/bfocal_score"], golden.values["unit/bfocal_label"]
    golden.check("unit/bfocal", focal_with_logits(score, label), tolerance=UNIT)


def test_the_smoothing_matrix_is_scipy_s_filter_on_the_enlarged_map(golden: GoldenSet) -> None:
    maps = torch.rand(2, 9, 7, generator=torch.Generator().manual_seed(0))
    ours = smooth_enlarge(maps, cell_px=14, sigma_cells=10 / 14)
    enlarged = F.interpolate(maps[:, None], scale_factor=14, mode="bilinear")[:, 0].numpy()
    assert np.abs(ours.numpy() - gaussian_filter(enlarged, (0, 10, 10))).max() < UNIT
    golden.check(
        "unit/gauss_sigma4_out",
        smooth_enlarge(golden.values["unit/gauss_in"][None], cell_px=1, sigma_cells=4)[0],
        tolerance=UNIT,
    )
