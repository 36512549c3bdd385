"""The exact metrics: every distinct score is a threshold. They sort, so they are for image scores and for small sets of maps.

For many maps use the streaming accumulators, which are tested against these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import UsageError
from blemish.metrics import steps as step_metrics
from blemish.metrics.checks import checked_labels, checked_map, find_mask_regions
from blemish.metrics.legacy import SteppedAupro
from blemish.metrics.steps import AUPIMO_BOUNDS, AUPRO_LIMIT, Steps
from blemish.metrics.values import Value, admit_few, undefined, with_interval

__all__ = ["Aupimo", "aupimo", "aupro", "auroc", "average_precision", "f1_max", "image_metrics"]

Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]
IMAGE_METRICS = {
    "auroc": step_metrics.auroc,
    "average_precision": step_metrics.average_precision,
    "f1_max": step_metrics.f1_max,
}


def auroc(scores: ArrayLike, labels: ArrayLike, *, rounds: int = 0, confidence: float = 0.95, seed: int = 0) -> Value:
    """The probability that an anomalous item scores higher than a normal one, ties counting half (Mann-Whitney).

    Args:
        scores: Of n items, in any shape, so also of all pixels of maps.
        labels: 0 (normal) or 1 (anomalous), in the same shape.
        rounds: The number of bootstrap resamples for the interval, each class resampled on its own; 0 for none.
        confidence: Of the interval.
        seed: Of the resamples.

    Returns:
        A value in 0..1, undefined where one of the classes is missing.

    Example:
        >>> auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).value
        0.75
        >>> print(auroc([0.1, 0.4], [0, 0]))
        undefined: AUROC needs both classes: there is nothing anomalous among these
    """
    return image_metrics(scores, labels, rounds=rounds, confidence=confidence, seed=seed, only="auroc")["auroc"]


def average_precision(
    scores: ArrayLike, labels: ArrayLike, *, rounds: int = 0, confidence: float = 0.95, seed: int = 0
) -> Value:
    """Average precision, the step sum of scikit-learn and not the trapezoid; arguments as for `auroc`.

    Example:
        >>> round(float(average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])), 3)
        0.833
    """
    values = image_metrics(scores, labels, rounds=rounds, confidence=confidence, seed=seed, only="average_precision")
    return values["average_precision"]


def f1_max(scores: ArrayLike, labels: ArrayLike, *, rounds: int = 0, confidence: float = 0.95, seed: int = 0) -> Value:
    """The highest F1 over all thresholds and the `threshold` (score >= threshold); arguments as for `auroc`.

    Example:
        >>> value = f1_max([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> round(float(value), 3), value.threshold
        (0.8, 0.35)
    """
    return image_metrics(scores, labels, rounds=rounds, confidence=confidence, seed=seed, only="f1_max")["f1_max"]


def image_metrics(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    rounds: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    only: str | None = None,
) -> dict[str, Value]:
    """AUROC, average precision and F1-max as "auroc", "average_precision", "f1_max", with intervals from `rounds` resamples."""
    ranked, truth = checked_labels(scores, labels)
    chosen = {name: metric for name, metric in IMAGE_METRICS.items() if only in (None, name)}
    table, row = _ranked(ranked, {"normal": ~truth, "anomalous": truth})
    values = {name: metric(table) for name, metric in chosen.items()}
    if not rounds or not all(value.defined for value in values.values()):
        return values
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(rounds):
        drawn = {
            name: np.bincount(rng.choice(row[members], int(members.sum())), minlength=len(table.thresholds))
            for name, members in (("normal", ~truth), ("anomalous", truth))
        }
        again = replace(table, added={name: counts.astype(np.float64) for name, counts in drawn.items()})
        for name, metric in chosen.items():
            resampled[name].append(float(metric(again)))
    least = min(int(truth.sum()), int((~truth).sum()))
    return {
        name: admit_few(
            with_interval(value, np.array(resampled[name]), confidence=confidence), least, confidence=confidence
        )
        for name, value in values.items()
    }


def aupro(
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    limit: float = AUPRO_LIMIT,
    legacy_steps: int | None = None,
) -> Value:
    """The area under the per-region overlap curve up to a false positive rate, divided by that rate.

    Regions are 8-connected and count the same whatever their size; the false positive rate is over all normal pixels of all
    maps. Equals MVTec's own evaluation code (Bergmann et al., IJCV 2021).

    Args:
        maps: Score maps [H, W]; sizes may differ between them.
        masks: A mask [H, W] for each, booleans or 0 and 1.
        limit: Of the false positive rate, in (0, 1].
        legacy_steps: 200 for the approximation that FAPrompt, AnomalyCLIP and others report (see `SteppedAupro`). Single
            outliers move it: use it to compare with published tables, for nothing else.

    Returns:
        A value in 0..1, undefined without an anomalous region or a normal pixel.

    Example:
        >>> anomaly_map = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3]])
        >>> aupro([anomaly_map], [anomaly_map > 0.5]).value
        1.0
    """
    pairs = _checked_pairs(maps, masks)
    if legacy_steps is not None:
        if not pairs:
            return undefined("AUPRO needs maps, and there are none")
        lowest, highest = min(scores.min() for scores, _ in pairs), max(scores.max() for scores, _ in pairs)
        stepped = SteppedAupro(lowest, highest, steps=legacy_steps, limit=limit)
        for scores, truth in pairs:
            stepped.add(scores, truth)
        return stepped.value()
    weights = []
    for _, truth in pairs:
        regions = find_mask_regions(truth)
        weight = np.zeros(truth.shape)
        weight[truth] = (1 / regions.areas_px)[regions.region_of]
        weights.append(weight.ravel())
    normal = _joined([~truth.ravel() for _, truth in pairs], bool)
    table, _ = _ranked(_joined([scores.ravel() for scores, _ in pairs]), {"normal": normal, "region": _joined(weights)})
    return step_metrics.aupro(table, limit=limit)


@dataclass(frozen=True, eq=False)
class Aupimo:
    """AUPIMO of a set of images."""

    mean: Value  # over the anomalous images
    per_image: tuple[float | None, ...]  # of each image in order, None for normal ones; () where it is undefined


def aupimo(
    maps: Sequence[ArrayLike], masks: Sequence[ArrayLike], *, bounds: tuple[float, float] = AUPIMO_BOUNDS
) -> Aupimo:
    """The area under each anomalous image's recall over the log of the mean false positive rate of the normal images.

    Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance", 2024.
    `steps.aupimo` says what happens at ties and where few pixels cannot reach the bounds.

    Args:
        maps: Score maps [H, W]; sizes may differ between them.
        masks: A mask [H, W] for each; an image is normal where its mask is empty.
        bounds: The false positive rates between which the recall is averaged.
    """
    pairs = _checked_pairs(maps, masks)
    normal = [scores.ravel() for scores, truth in pairs if not truth.any()]
    scores, shares = _highest(
        _joined(normal), _joined([np.full(len(pixels), 1 / len(pixels)) for pixels in normal]), bounds[1]
    )
    values: list[Value | None] = []
    for anomaly_map, truth in pairs:
        if not truth.any():
            values.append(None)
            continue
        own = anomaly_map[truth]
        own = np.where(own >= scores.min(initial=np.inf, where=np.isfinite(scores)), own, -np.inf)
        added = {
            "share": np.concatenate([shares, np.zeros(len(own))]),
            "image": np.concatenate([np.zeros(len(scores)), np.ones(len(own))]),
        }
        table, _ = _ranked(np.concatenate([scores, own]), added)
        values.append(step_metrics.aupimo(table, bounds=bounds))
    of_anomalous = [value for value in values if value is not None]
    if not of_anomalous:
        return Aupimo(step_metrics.aupimo(Steps(np.zeros(0), {"share": shares}, np.zeros(0, bool)), bounds=bounds), ())
    if not of_anomalous[0].defined:
        return Aupimo(of_anomalous[0], ())
    mean = Value(value=float(np.mean([float(value) for value in of_anomalous])))
    return Aupimo(mean, tuple(None if value is None else value.value for value in values))


def _highest(scores: Scores, shares: Floats, upper: float) -> tuple[Scores, Floats]:
    """The highest scores, down to the one at which the rate reaches `upper`; the others become one score of -inf."""
    if not len(scores):
        return scores, shares
    order = np.argsort(scores)[::-1]
    needed = int(np.searchsorted(np.cumsum(shares[order]), upper * shares.sum()))
    is_high = scores >= scores[order[min(needed, len(order) - 1)]]
    return np.append(scores[is_high], -np.inf), np.append(shares[is_high], shares[~is_high].sum())


def _ranked(scores: Scores, added: dict[str, NDArray[Any]]) -> tuple[Steps, NDArray[np.int64]]:
    """One row for each distinct score, from the highest down, and the row of each score [n]."""
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    first = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, np.intp)
    row = np.empty(len(scores), np.int64)
    row[order] = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(scores))))
    sums = {
        name: np.add.reduceat(values[order].astype(np.float64), first) if len(first) else np.zeros(0)
        for name, values in added.items()
    }
    return Steps(ranked[first].astype(np.float64), sums, np.ones(len(first), bool)), row


def _checked_pairs(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> list[tuple[Scores, NDArray[np.bool_]]]:
    if len(maps) != len(masks):
        raise UsageError(f"{len(maps)} maps and {len(masks)} masks cannot be compared")
    return [checked_map(anomaly_map, mask) for anomaly_map, mask in zip(maps, masks, strict=True)]


def _joined(parts: Sequence[NDArray[Any]], kind: type = float) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
