"""Whether calibration keeps its promise on real images, as the tables in docs/calibration.md: `python -m benchmarks.calibration`.

The good solar cells of elpv-dataset (both experts saw no defect) are split in two halves, many times: thresholds come from one
half, the share at or above them is counted in the other. `--scores FILE` keeps the scores, so that they are made once.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import blemish
from blemish.calibration.conformal import allowed_above, threshold_above
from blemish.calibration.estimates import mirrored
from blemish.data.elpv import solar_cells

SPLITS = 1000
PROMISES = ((0.01, None), (0.05, None), (0.01, 0.95), (0.05, 0.95))


@dataclass(frozen=True)
class Scores:
    """Image scores and map peaks of all cells, whether they are good, and monocrystalline: each [n]."""

    image: NDArray[np.float32]
    peak: NDArray[np.float32]
    good: NDArray[np.bool_]
    mono: NDArray[np.bool_]


def score_cells(kept: Path | None) -> Scores:
    if kept is None or not kept.is_file():
        cells = solar_cells()
        seen = list(blemish.load(method="ensemble").inspect(iter([cell.path for cell in cells])))
        scores = Scores(
            np.array([one.image_score for one in seen], np.float32),
            np.array([one.map_peak for one in seen], np.float32),
            np.array([cell.defect_probability == 0 for cell in cells]),
            np.array([cell.kind == "mono" for cell in cells]),
        )
        if kept is not None:
            np.savez(kept, image=scores.image, peak=scores.peak, good=scores.good, mono=scores.mono)
        return scores
    with np.load(kept) as arrays:
        return Scores(arrays["image"], arrays["peak"], arrays["good"], arrays["mono"])


def promises(scores: Scores) -> list[str]:
    """The realised rates over all splits, a Markdown line for each promise and set of cells."""
    lines = [
        "| good cells | promised | from | NG, mean | NG, 5..95 % of splits | splits above | region, mean |",
        "|---|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    for name, chosen in (("mono", scores.mono), ("poly", ~scores.mono), ("both", np.ones_like(scores.mono))):
        image, peak = scores.image[scores.good & chosen], scores.peak[scores.good & chosen]
        half = len(image) // 2
        for share, confidence in PROMISES:
            most = allowed_above(half, share, confidence=confidence)
            promised = f"{share:.0%}" + ("" if confidence is None else f", confidence {confidence:.0%}")
            if most is None:
                lines.append(f"| {name} | {promised} | {half} | too few | | | |")
                continue
            rates = []
            for _ in range(SPLITS):
                first, second = np.split(rng.permutation(len(image)), [half])
                pairs = ((image, image), (peak, peak))
                rates.append([np.mean(of[second] >= threshold_above(by[first], most)) for of, by in pairs])
            ng, region = np.array(rates).T
            low, high = np.quantile(ng, [0.05, 0.95])
            lines.append(
                f"| {name} | {promised} | {half} | {ng.mean():.2%} | {low:.2%}..{high:.2%} | {np.mean(ng > share):.1%} | "
                f"{region.mean():.2%} |"
            )
    return lines


def estimates(scores: Scores) -> list[str]:
    """What the estimate from unlabelled images does: all cells of a kind, good and bad, are what it sees."""
    lines = ["| cells | of them bad | estimated for | good ones NG | with a region |", "|---|---|---|---|---|"]
    for name, chosen in (("mono", scores.mono), ("poly", ~scores.mono), ("both", np.ones_like(scores.mono))):
        good, bad = scores.good & chosen, ~scores.good & chosen
        for share in (0.01, 0.05):
            rates = [float(np.mean(of[good] >= mirrored(of[chosen], share))) for of in (scores.image, scores.peak)]
            lines.append(
                f"| {name} | {bad.sum() / chosen.sum():.0%} of {chosen.sum()} | {share:.0%} | {rates[0]:.1%} | {rates[1]:.1%} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, help="file (.npz) that keeps the scores")
    scores = score_cells(parser.parse_args().scores)
    print("\n".join([*promises(scores), "", *estimates(scores)]))


if __name__ == "__main__":
    main()
