"""FAPrompt on a tiny random backbone: what must hold whatever the weights are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import TINY, random_images, tiny_backbone
from torch import Tensor
from torch.nn.functional import normalize

from blemish import methods
from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.errors import ModelError, UnknownNameError, UsageError
from blemish.language import Vocabulary, parse_defects
from blemish.methods.base import Features, Scores, Targets
from blemish.methods.faprompt import FAPrompt, FAPromptConfig, FAPromptTexts

SPEC_COUNTS = {  # ViT-L/14@336, the specification's table
    "normal_tokens": 3_840,
    "abnormal_tokens": 15_360,
    "deep_tokens": 24_576,
    "psi.hidden": 3_686_880,
    "psi.out": 369_408,
}


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_backbone()


DEFECTS = parse_defects("scratch, hole")


def faprompt(backbone: Clip, *, wide: bool = True, **options: Any) -> FAPrompt:
    """The method with prompts far enough apart that each of them matters."""
    torch.manual_seed(3)
    method = FAPrompt(backbone, FAPromptConfig(**{"patches": 3, **options}))
    if wide:
        for part in method.trained_parts().values():
            torch.nn.init.normal_(part, std=0.5)
    return method


def texts_of(method: FAPrompt, vocabulary: Vocabulary = DEFECTS) -> FAPromptTexts:
    texts = method.encode_texts(vocabulary)
    assert isinstance(texts, FAPromptTexts)
    return texts


def scored(method: FAPrompt, images: Tensor, vocabulary: Vocabulary = DEFECTS) -> Scores:
    with torch.inference_mode():
        return method.score(method.encode(images), texts_of(method, vocabulary))


def targets(count: int = 3) -> Targets:
    mask = torch.zeros(count, 64, 64)
    mask[0, 10:30, 20:40] = 1
    return Targets(torch.tensor([1, 0, 0][:count]), mask)


def test_parameters_of_each_part_are_the_papers() -> None:
    with torch.device("meta"):
        clip = Clip(catalog()["ViT-L-14-336"].config)
        clip.text.token_embedding = torch.nn.Embedding(49408, 768, device="cpu")
        clip.text.position_embedding = torch.nn.Parameter(torch.zeros(77, 768, device="cpu"))
        method = FAPrompt(clip)
    counts = dict.fromkeys(SPEC_COUNTS, 0)
    for name, part in method.trained_parts().items():
        counts[name.removesuffix(".weight").removesuffix(".bias")] += part.numel()
    assert counts == SPEC_COUNTS
    assert sum(counts.values()) == 4_100_064


def test_scores_have_the_promised_shapes_and_ranges(backbone: Clip) -> None:
    scores = scored(faprompt(backbone), random_images())
    assert scores.types == ("scratch", "hole")
    assert scores.anomaly_map.shape == (3, 64, 64)
    assert scores.type_maps.shape == (3, 2, 8, 8)
    for tensor in (scores.image_score, scores.anomaly_map, scores.type_maps, scores.type_scores):
        assert tensor.min() >= 0
        assert tensor.max() <= 1
    assert torch.allclose(scores.type_scores.sum(1), scores.image_score, atol=1e-6)


@pytest.mark.parametrize("selection", ["paper", "released"])
def test_an_image_scores_the_same_alone_and_in_a_batch(backbone: Clip, selection: str) -> None:
    method, images = faprompt(backbone, selection=selection), random_images()
    together = scored(method, images)
    for index in range(len(images)):
        alone = scored(method, images[index : index + 1])
        assert torch.allclose(together.image_score[index], alone.image_score[0], atol=1e-5)
        assert torch.allclose(together.anomaly_map[index], alone.anomaly_map[0], atol=1e-5)


def test_the_names_that_are_asked_for_never_move_the_score(backbone: Clip) -> None:
    few, many = (
        scored(faprompt(backbone), random_images(), parse_defects(names)) for names in ("scratch", "stain, hole, dent")
    )
    assert torch.equal(few.image_score, many.image_score)
    assert torch.equal(few.anomaly_map, many.anomaly_map)


def test_the_paper_selects_the_most_abnormal_places_and_the_release_the_first(backbone: Clip) -> None:
    places = normalize(torch.randn(2, 10, TINY.joint_width, generator=torch.Generator().manual_seed(2)), dim=-1)
    abnormal = torch.rand(2, 10, generator=torch.Generator().manual_seed(5))
    for selection in ("paper", "released"):
        method = faprompt(backbone, selection=selection)
        assert method.psi is not None
        for image in range(2):
            order = abnormal[image].argsort(descending=True)[:3] if selection == "paper" else torch.arange(3)
            expected = method.psi(places[image][order].flatten()[None])
            prior = method.prior(places, abnormal)
            assert prior is not None
            assert torch.allclose(prior[image], expected[0], atol=1e-6)


def plain_embedding(method: FAPrompt, own: Tensor, words: Tensor, shared: Tensor) -> Tensor:
    """The slow twin: whole prompts, one by one, through the text tower's general way."""
    embedded = []
    for tokens in own:
        prompt = torch.cat([method.start, shared, tokens, words])[None]
        end = torch.tensor([prompt.shape[1] - 1])
        embedded.append(method.backbone.text(prompt, pool_at=end, before_block=method.before_block()))
    return torch.cat(embedded)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("normal_tokens", [2, 5])  # 2: the deep tokens reach beyond what prompts share
def test_prompts_that_begin_alike_are_embedded_as_one_by_one(backbone: Clip, share: bool, normal_tokens: int) -> None:
    method = faprompt(backbone, share_normal_tokens=share, normal_tokens=normal_tokens)
    shared = method.normal_tokens if share else method.normal_tokens[:0]
    priors = torch.randn(2, TINY.text.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = method.embed_abnormal(priors)
        for image, prior in enumerate(priors):
            slow = plain_embedding(method, method.abnormal_tokens + prior, method.abnormal_words, shared)
            assert torch.allclose(ours[image], slow, atol=1e-5)
        normal = plain_embedding(method, method.normal_tokens[None], method.normal_words, shared[:0])
        assert torch.allclose(method.embed_normal(), normal, atol=1e-5)


def test_without_a_prior_there_is_one_stage(backbone: Clip) -> None:
    method = faprompt(backbone, prior=False)
    stages = method.stages(method.encode(random_images()), texts_of(method))
    assert torch.equal(stages.abnormal1, stages.abnormal2)
    losses = method.loss(method.encode(random_images()), targets(), DEFECTS)
    assert {"focal1", "dice1_abnormal", "dice1_normal", "image_cross_entropy", "image_focal", "orthogonality"} == set(
        losses.terms
    )


def test_every_trained_part_gets_a_gradient_and_the_backbone_none(backbone: Clip) -> None:
    method = faprompt(backbone, wide=False)
    method.loss(method.encode(random_images()), targets(), DEFECTS).total.backward()
    for name, part in method.trained_parts().items():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name
    assert all(part.grad is None for part in method.backbone.parameters())


def test_images_without_a_mask_teach_only_the_image_level(backbone: Clip) -> None:
    method, images = faprompt(backbone), random_images()
    features = method.encode(images)
    known = torch.tensor([True, True, False])
    some = method.loss(features, replace(targets(), has_mask=known), DEFECTS)
    first = Features(features.global_feature[:2], tuple(level[:2] for level in features.levels), features.grid)
    assert torch.allclose(some.terms["focal1"], method.loss(first, targets(2), DEFECTS).terms["focal1"])
    nobody = method.loss(features, replace(targets(), has_mask=torch.zeros(3, dtype=torch.bool)), DEFECTS)
    assert nobody.terms["dice2_abnormal"].item() == 0
    nobody.total.backward()


def test_the_prior_loss_counts_normal_images_only(backbone: Clip) -> None:
    method = faprompt(backbone)
    features = method.encode(random_images())
    sizes = method.stages(features).priors.square().mean(1)  # type: ignore[union-attr]
    assert torch.allclose(method.loss(features, targets(), DEFECTS).terms["prior"], sizes[1:].sum())
    all_bad = replace(targets(), label=torch.ones(3, dtype=torch.long))
    assert method.loss(features, all_bad, DEFECTS).terms["prior"].item() == 0


@pytest.mark.parametrize("option", ["image_score", "image_loss", "levels", "prior_reduction", "cls_norm"])
def test_each_named_option_changes_what_it_names(backbone: Clip, option: str) -> None:
    values = {
        "image_score": ("released", "figure", "cls"),
        "image_loss": ("released", "probability"),
        "levels": ("last", "backbone"),
        "prior_reduction": ("sum", "mean"),
        "cls_norm": (False, True),
    }[option]
    images, seen = random_images(), set()
    for value in values:
        method = faprompt(backbone, **{option: value})
        scores = scored(method, images)
        total = method.loss(method.encode(images), targets(), DEFECTS).total.detach()
        seen.add((round(float(scores.image_score.sum()), 6), round(float(total), 6)))
    assert len(seen) == len(values)


def test_the_maps_are_as_smooth_as_asked(backbone: Clip) -> None:
    rough, smooth = (scored(faprompt(backbone, smoothing=sigma), random_images()) for sigma in (0.0, 2.0))
    assert smooth.anomaly_map.std() < rough.anomaly_map.std()
    assert torch.allclose(rough.anomaly_map.mean(), smooth.anomaly_map.mean(), atol=1e-3)


def test_options_that_cannot_be_are_refused(backbone: Clip) -> None:
    with pytest.raises(UsageError, match="abnormality_prompts must be at least 1"):
        FAPromptConfig(abnormality_prompts=0)
    with pytest.raises(UsageError, match=r"deep_blocks \[2, 9\] are outside 1\.\.4"):
        FAPrompt(backbone, FAPromptConfig(deep_blocks=(2, 9)))
    with pytest.raises(UnknownNameError, match="did you mean 'selection'"):
        methods.build("faprompt", backbone, {"selektion": "paper"})
    with pytest.raises(UnknownNameError, match="selection"):
        methods.build("faprompt", backbone, {"selection": "top"})
    with pytest.raises(UsageError, match="100 patches, the image has 64"):
        scored(faprompt(backbone, patches=100), random_images())


def test_trained_parts_of_another_shape_are_refused_by_name(backbone: Clip) -> None:
    state = {name: part.detach() for name, part in faprompt(backbone).trained_parts().items()}
    with pytest.raises(ModelError, match="abnormal_tokens is"):
        faprompt(backbone, abnormality_prompts=4).load_trained(state)
    with pytest.raises(ModelError, match=r"lacks psi\.out\.bias"):
        faprompt(backbone).load_trained({name: part for name, part in state.items() if name != "psi.out.bias"})
    with pytest.raises(ModelError, match=r"unknown part, psi"):
        faprompt(backbone, prior=False).load_trained(state)
