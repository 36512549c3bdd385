"""DAPO's losses beside a slow way at full size, and what training moves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.backbones.model import Clip
from blemish.errors import UsageError
from blemish.language import parse_defects
from blemish.methods.base import Targets
from blemish.methods.dapo import DAPO
from blemish.methods.losses import dice, focal
from blemish.methods.typed import enlarge_maps
from methods.tiny_dapo import DEFECTS, method_with, targets, texts_of, tiny_clip, tiny_images


@pytest.fixture(scope="module")
def backbone() -> Clip:
    return tiny_clip()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return tiny_images()


# losses


def slow_loss(method: DAPO, images: Tensor, truth: Targets, rows: list[int]) -> dict[str, Tensor]:
    """The terms with all classes at full size; the local ones over these rows."""
    assert truth.type_id is not None
    features = method.encode(images)
    texts = F.normalize(torch.cat([method.embed_normal(), method.embed_types(DEFECTS.types)]), dim=-1)
    classes = (truth.mask * truth.type_id[:, None, None]).long()[rows]
    mask = truth.mask[rows]
    terms = {"focal": torch.zeros(()), "dice_normal": torch.zeros(()), "dice_abnormal": torch.zeros(())}
    for places in features.levels:
        cosines = (places[rows] @ texts.T / 0.07).transpose(1, 2).reshape(len(rows), -1, 4, 4)
        before = method.config.softmax == "before"
        p = enlarge_maps(cosines.softmax(1), (32, 32)) if before else enlarge_maps(cosines, (32, 32)).softmax(1)
        terms["focal"] = terms["focal"] + focal(p, classes)
        terms["dice_normal"] = terms["dice_normal"] + dice(p[:, 0], 1 - mask)
        terms["dice_abnormal"] = terms["dice_abnormal"] + dice(p[:, 1:].sum(1), mask)
    terms["image_cross_entropy"] = F.cross_entropy(method.image_logits(features, texts), truth.label)
    return terms


@pytest.mark.parametrize("softmax", ["before", "after"])
def test_three_classes_an_image_give_the_loss_and_gradients_of_all_classes(
    backbone: Clip, images: Tensor, softmax: str
) -> None:
    method = method_with(backbone, softmax=softmax)
    losses = method.loss(method.encode(images), targets(), DEFECTS)
    expected = slow_loss(method, images, targets(), [0, 1, 2])
    local = expected["focal"] + expected["dice_normal"] + expected["dice_abnormal"]
    total = 4 * local + expected["image_cross_entropy"]
    for name, term in expected.items():
        assert torch.allclose(losses.terms[name], term, rtol=1e-5), name
    assert torch.allclose(losses.total, total, rtol=1e-5)
    parts = list(method.trained_parts().values())
    for ours, theirs in zip(torch.autograd.grad(losses.total, parts), torch.autograd.grad(total, parts), strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def test_images_without_a_mask_teach_only_the_image_loss(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    truth = targets()
    drawn = torch.tensor([True, True, False])
    losses = method.loss(method.encode(images), Targets(truth.label, truth.mask, drawn, truth.type_id), DEFECTS)
    expected = slow_loss(method, images, truth, [0, 1])
    for name, term in expected.items():
        assert torch.allclose(losses.terms[name], term, rtol=1e-5), name
    nothing = Targets(truth.label, truth.mask, torch.zeros(3, dtype=torch.bool), truth.type_id)
    losses = method.loss(method.encode(images), nothing, DEFECTS)
    assert torch.allclose(losses.total, losses.terms["image_cross_entropy"])
    losses.total.backward()


def test_a_defect_that_nobody_named_may_be_of_any_type(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    truth = targets(types=(-1, 0, -1))
    features = method.encode(images)
    unnamed = method.loss(features, truth, DEFECTS).terms
    assert torch.allclose(
        method.loss(features, Targets(truth.label, truth.mask), DEFECTS).terms["focal"], unnamed["focal"]
    )
    two = torch.zeros(())
    with torch.inference_mode():
        maps = method.maps(features, texts_of(method), size=(32, 32))
    for p in maps.unbind(1):
        two = two + focal(torch.stack([p[:, 0], 1 - p[:, 0]], dim=1), truth.mask)
    assert torch.allclose(unnamed["focal"], two, rtol=1e-4)


def test_the_weights_of_the_loss_are_options(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone, local_loss=2.0, global_loss=0.0, normal_dice=False)
    losses = method.loss(method.encode(images), targets(), DEFECTS)
    assert torch.allclose(losses.total, 2 * (losses.terms["focal"] + losses.terms["dice_abnormal"]))


def test_types_of_the_truth_that_the_vocabulary_lacks_are_refused(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    with pytest.raises(UsageError, match="type 2 of 1: give the vocabulary of the data's own types"):
        method.loss(method.encode(images), targets(), parse_defects("scratch"))


def test_a_few_steps_lower_the_loss_and_leave_the_backbone_alone(backbone: Clip, images: Tensor) -> None:
    method = method_with(backbone)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    optimiser = torch.optim.Adam(method.trained_parts().values(), lr=1e-2)
    seen = []
    for _ in range(8):
        losses = method.loss(method.encode(images), targets(), DEFECTS)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        seen.append(float(losses.total.detach()))
    assert seen[-1] < 0.9 * seen[0]
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
