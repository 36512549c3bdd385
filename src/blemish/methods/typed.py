"""What DAPO and MultiADS share: probabilities of normal and of every defect type at every patch, level by level.

Both compare the patches of each level with one text for normal (class 0) and one for each defect type (classes 1..T).
B batch, L levels, N patches, D joint width, T types, C = 1 + T classes, h×w the patch grid, S side of the tower's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import UsageError
from blemish.language import DefectType
from blemish.methods.base import Targets
from blemish.methods.losses import dice, focal

__all__ = [
    "ImageTyping",
    "Softmax",
    "Words",
    "anomaly_map",
    "enlarge_maps",
    "level_logits",
    "local_losses",
    "probabilities",
    "type_scores",
    "words_of",
]

Softmax = Literal["before", "after"]
ImageTyping = Literal["places", "cls", "both"]
Words = Literal["name", "all"]
TYPES_AT_ONCE = 8  # maps of a batch that are enlarged together


def level_logits(
    levels: Sequence[Tensor], texts: Tensor, *, grid: tuple[int, int], temperature: float
) -> tuple[Tensor, ...]:
    """cosine / temperature of normalised patches [B, N, D] with texts [C, D], or [B, C, D] of each image: for each level
    [B, C, h, w]."""
    return tuple(
        (patches @ texts.transpose(-1, -2) / temperature).transpose(1, 2).reshape(patches.shape[0], -1, *grid)
        for patches in levels
    )


def probabilities(
    logits: Tensor, *, softmax: Softmax, size: tuple[int, int] | None = None, align_corners: bool = True
) -> Tensor:
    """The softmax over the classes of logits [B, C, h, w]; with a size [B, C, *size], enlarged before or after it.

    "before" is the order of DAPO: the softmax, then the enlargement. "after" that of MultiADS. On the patch grid they agree.
    """
    if size is None:
        return logits.softmax(1)
    if softmax == "before":
        return enlarge_maps(logits.softmax(1), size, align_corners=align_corners)
    return enlarge_maps(logits, size, align_corners=align_corners).softmax(1)


def anomaly_map(
    logits: Sequence[Tensor], *, softmax: Softmax, size: tuple[int, int], align_corners: bool = True
) -> Tensor:
    """The mean over levels of 1 - p(normal) [B, *size], of logits [B, C, h, w]; no type gets a map of that size."""
    if softmax == "before":  # enlarging is linear: once for all levels
        normal = torch.stack([level.softmax(1)[:, :1] for level in logits]).mean(0)
        return enlarge_maps(1 - normal, size, align_corners=align_corners)[:, 0]
    maps = []
    for level in logits:
        normal = enlarge_maps(level[:, :1], size, align_corners=align_corners)
        abnormal = torch.full_like(normal, -torch.inf)  # the logarithm of the sum over types
        for part in torch.split(level[:, 1:], TYPES_AT_ONCE, dim=1):
            some = enlarge_maps(part, size, align_corners=align_corners).logsumexp(1, keepdim=True)
            abnormal = torch.logaddexp(abnormal, some)
        maps.append((abnormal - normal).sigmoid()[:, 0])  # a softmax over two
    return torch.stack(maps).mean(0)


def enlarge_maps(maps: Tensor, size: tuple[int, int], *, align_corners: bool = True) -> Tensor:
    """Maps [B, C, h, w] at [B, C, *size], bilinear. With `align_corners` the centres of the outer patches lie on the border,
    as both releases have it; without, they lie where the patches are."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=align_corners)


def type_scores(
    maps: Tensor, cosines: Tensor, image_score: Tensor, *, typing: ImageTyping, temperature: float, share: float
) -> Tensor:
    """The image-level scores [B, T] of the types; they add up to image_score [B]. Our own: neither release types images.

    maps [B, T, N] are the types' maps, cosines [B, T] those of CLS with the types' texts. Each type gets its share
    of the image score: of the maps' means over the most anomalous `share` of all patches ("places"), of the softmax of
    cosine / temperature over the types ("cls"), or the mean of the two ("both").
    """
    shares = []
    if typing != "cls":
        top = max(1, round(share * int(maps.shape[2])))
        highest = maps.sum(1).topk(top, dim=1).indices  # [B, top]
        strongest = maps.gather(2, highest[:, None].expand(-1, maps.shape[1], -1)).mean(2)  # [B, T]
        shares.append(strongest / strongest.sum(1, keepdim=True).clamp_min(1e-9))
    if typing != "places":
        shares.append((cosines / temperature).softmax(1))
    return torch.stack(shares).mean(0) * image_score[:, None]


def local_losses(
    logits: Sequence[Tensor], targets: Targets, *, softmax: Softmax, align_corners: bool = True
) -> dict[str, Tensor]:
    """Sums over the levels of focal, dice_normal and dice_abnormal, over the images of the batch that have a mask.

    logits are the levels' [B, C, h, w]. An image has one defect type, so of its classes only three are kept apart at full
    size: normal, its own type, and all others together, which gives the same numbers as all C would. In an image whose type
    nobody named (type_id below 1, or none given) the defect may be of any type.
    """
    mask, kinds = targets.mask, targets.type_id
    kinds = torch.zeros_like(targets.label) if kinds is None else kinds
    if targets.has_mask is not None:
        logits = [level[targets.has_mask] for level in logits]
        mask, kinds = mask[targets.has_mask], kinds[targets.has_mask]
    terms = {name: logits[0].sum() * 0 for name in ("focal", "dice_normal", "dice_abnormal")}
    if not len(mask):
        return terms
    classes, size = logits[0].shape[1], (mask.shape[-2], mask.shape[-1])
    if int(kinds.max()) >= classes:
        raise UsageError(f"type {int(kinds.max())} of {classes - 1}: give the vocabulary of the data's own types")
    for level in logits:
        if softmax == "before":
            three = enlarge_maps(_three_classes(level.softmax(1), kinds), size, align_corners=align_corners)
        else:
            three = _three_classes(enlarge_maps(level, size, align_corners=align_corners).softmax(1), kinds)
        terms["focal"] = terms["focal"] + focal(three, mask > 0.5, classes=classes)
        terms["dice_normal"] = terms["dice_normal"] + dice(three[:, 0], 1 - mask)
        terms["dice_abnormal"] = terms["dice_abnormal"] + dice(three[:, 1] + three[:, 2], mask)
    return terms


def _three_classes(p: Tensor, kinds: Tensor) -> Tensor:
    """Probabilities [B, C, h, w] as [B, 3, h, w]: normal, the image's own type (kinds [B]; any type below 1), all others."""
    abnormal = p[:, 1:].sum(1, keepdim=True)  # [B, 1, h, w]
    index = kinds.long().clamp_min(1)[:, None, None, None].expand(-1, 1, *p.shape[2:])
    own = torch.where((kinds > 0)[:, None, None, None], p.gather(1, index), abnormal)
    return torch.cat([p[:, :1], own, abnormal - own], dim=1)


def words_of(defect: DefectType, words: Words) -> tuple[str, ...]:
    """What stands for a type in a prompt: its name, or all its wordings."""
    return (defect.name,) if words == "name" else defect.wordings
