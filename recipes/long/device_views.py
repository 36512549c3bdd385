"""Views of pictures on the device: where they are cut, turned, lit, coloured and blurred. G groups, K pictures of a group.

A group is a pair or a single picture; what belongs to a group is cut and lit alike, so that its state alone differs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.embedded.views import GREY, MASK_LEFT, SHUFFLED

WHOLE_SHARE, LEAST_SHARE = 0.35, 0.35  # of the views that show all; of the picture's side that a view shows at least
STRETCH = 0.12  # spread of the aspect's logarithm
BLURRED, NOISY = 0.2, 0.3


def windows(points: Tensor, generator: torch.Generator) -> Tensor:
    """Parts of pictures [G, 4] that hold these points [G, 2]: left, top, width and height in 0..1."""
    count, device = len(points), points.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    share = LEAST_SHARE + (1 - LEAST_SHARE) * uniform(count, 1)
    share = torch.where(uniform(count, 1) < WHOLE_SHARE, torch.ones_like(share), share)
    stretch = torch.randn(count, 1, generator=generator, device=device) * STRETCH
    size = (share * torch.cat([stretch, -stretch], 1).exp()).clamp(max=1.0)
    start = (points - (0.1 + 0.8 * uniform(count, 2)) * size).clamp(min=0)
    return torch.cat([torch.minimum(start, 1 - size), size], 1)


def grids(parts: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Where views [G, side, side, 2] of these parts [G, 4] are sampled, each turned and flipped at random, in -1..1."""
    count, device = len(parts), parts.device
    at = (torch.arange(side, device=device) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    base = torch.stack([x, y], -1).expand(count, side, side, 2)
    draw = torch.randint(0, 2, (3, count, 1, 1), generator=generator, device=device).bool()
    base = torch.where(draw[0][..., None], base.flip(-1), base)  # transposed
    signs = torch.where(draw[1:].squeeze(-1).permute(1, 2, 0), 1.0, -1.0)  # [G, 1, 2]
    base = base * signs[:, None]
    centre = (parts[:, :2] + parts[:, 2:] / 2) * 2 - 1
    return base * parts[:, None, None, 2:] + centre[:, None, None]


def cut(pictures: Tensor, masks: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Views [G, K, 3, n, n] in 0..1 and masks bool [G, n, n] of pictures uint8 [G, K, 3, S, S] and masks uint8 [G, S, S].

    grid [G, 2n, 2n, 2] has twice the side: four samples a pixel, so that fine lines are not torn when views are smaller.
    """
    groups, members, _, side, _ = pictures.shape
    stacked = torch.cat([pictures.reshape(groups, members * 3, side, side), masks[:, None]], 1).float() / 255
    seen = F.grid_sample(stacked, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    seen = F.avg_pool2d(seen, 2)
    covered = seen[:, -1]
    most = covered.amax((1, 2), keepdim=True)
    marked = covered > torch.minimum(0.9 * most, torch.full_like(most, MASK_LEFT))
    views = seen[:, :-1].reshape(groups, members, 3, *seen.shape[-2:])
    return views.clamp(0, 1), marked & (most > 0.05)


def relit(views: Tensor, generator: torch.Generator) -> Tensor:
    """Views [G, K, 3, n, n] in other light and colours, the same in a group; some blurred, some with noise of their own."""
    count, device = len(views), views.device

    def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device)

    kind = uniform()
    order = torch.rand(count, 3, generator=generator, device=device).argsort(1)
    shuffled = views.gather(2, order[:, None, :, None, None].expand_as(views))
    grey = views.mean(2, keepdim=True).expand_as(views)
    views = torch.where(kind < GREY, grey, torch.where(kind < GREY + SHUFFLED, shuffled, views))
    views = views.clamp(1e-4, 1) ** torch.exp(uniform(-0.35, 0.35))
    views = ((views - 0.5) * uniform(0.65, 1.3) + 0.5 + uniform(-0.12, 0.12)).clamp(0, 1)
    flat = views.flatten(0, 1)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="reflect"), 3, stride=1).view_as(views)
    views = torch.where(uniform() < BLURRED, soft, views)
    noise = torch.randn(views.shape, generator=generator, device=device)
    amount = torch.where(uniform() < NOISY, uniform(0.0, 0.04), torch.zeros_like(kind))
    return (views + amount * noise).clamp(0, 1)


def blobs(count: int, side: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Masks bool [count, side, side], each one patch of uneven outline, between points and a third of the side."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    at = (torch.arange(side, device=device) + 0.5) / side
    centre = 0.15 + 0.7 * uniform(count, 2)
    radius = 0.015 * (0.28 / 0.015) ** uniform(count, 1, 1)
    angle, slim = uniform(count, 1, 1) * math.pi, torch.exp(-1.6 * uniform(count, 1, 1))
    dx, dy = at[None, None] - centre[:, :1, None], at[None, :, None] - centre[:, 1:, None]
    along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    distance = (along.square() + (across / slim).square()).sqrt() / radius
    rough = torch.zeros_like(distance)
    for cells, weight in ((5, 0.25), (12, 0.2), (28, 0.15)):
        field = torch.randn(count, 1, cells, cells, generator=generator, device=device)
        rough = rough + weight * F.interpolate(field, (side, side), mode="bicubic")[:, 0]
    return distance + rough * uniform(count, 1, 1) < 1


def defaced(views: Tensor, generator: torch.Generator, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Views [G, 3, n, n] with one patch of each replaced, and the masks bool [G, n, n]; empty where nothing stands out.

    By another picture's surface (as DRAEM does, Zavrtanik et al., ICCV 2021), by another part of the same picture (CutPaste, Li
    et al., CVPR 2021), by other light or colours, by a blur, or bent.
    """
    count, side, device = len(views), views.shape[-1], views.device
    masks = blobs(count, side, generator, device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    at = (torch.arange(side, device=device) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    identity = torch.stack([x, y], -1).expand(count, side, side, 2)
    moves = (uniform(count, 1, 1, 2) - 0.5) * 1.2
    shifted = F.grid_sample(views, identity + moves, padding_mode="reflection", align_corners=False)
    field = F.interpolate(torch.randn(count, 2, 6, 6, generator=generator, device=device), (side, side), mode="bicubic")
    bent = F.grid_sample(
        views, identity + 0.12 * field.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False
    )
    foreign = views.roll(int(rng.integers(1, max(2, count))), 0)
    gain, offset = 0.5 + uniform(count, 3, 1, 1), (uniform(count, 3, 1, 1) - 0.5) * 0.5
    even = uniform(count, 1, 1, 1) < 0.6
    lit = torch.where(even, views * gain[:, :1] + offset[:, :1], views * gain + offset)
    blurred = F.interpolate(F.adaptive_avg_pool2d(views, max(4, side // 12)), (side, side), mode="bilinear")
    choice = torch.randint(0, 6, (count, 1, 1, 1), generator=generator, device=device)
    other = torch.where(choice <= 1, shifted, torch.where(choice == 2, foreign, torch.where(choice == 3, lit, blurred)))
    other = torch.where(choice == 5, bent, other)
    opacity = torch.where(
        uniform(count, 1, 1, 1) < 0.5, torch.ones(1, device=device), 0.35 + 0.65 * uniform(count, 1, 1, 1)
    )
    inside = F.avg_pool2d(F.pad(masks[:, None].float(), (1, 1, 1, 1)), 3, stride=1) * opacity
    changed = (views + inside * (other - views)).clamp(0, 1)
    difference = (changed - views).abs().mean(1)
    visible = (difference * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)
    around = F.max_pool2d(masks[:, None].float(), 9, stride=1, padding=4)[:, 0]
    grey = views.mean(1)
    total = around.sum((1, 2)).clamp(min=1)
    mean = (grey * around).sum((1, 2)) / total
    spread = ((grey - mean[:, None, None]).square() * around).sum((1, 2)).div(total).sqrt()
    keep = (visible > 0.035) & (visible > 0.5 * spread) & (masks.sum((1, 2)) > 6)
    masks = masks & (difference > 0.01) & keep[:, None, None]
    return torch.where(keep[:, None, None, None], changed, views), masks
