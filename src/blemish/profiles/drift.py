"""Whether the images of a run still look like a profile's good ones: tests at a stated level.

Brightness, contrast, sharpness and colour are compared by the two-sample test of Kolmogorov and Smirnov, with exact p-values
for small samples. Image scores are compared by the rank test of Mann and Whitney, in a way that bad parts alone do not trip:
the lower half of the run's scores against all good ones for "higher", the upper half for "lower". If at least half of the run is
good, the i-th lowest score of its lower half is at most the i-th lowest of as many good images, so that the test keeps its level
whatever the other half is; likewise for the upper half, as long as bad parts do not score lower than good ones.

Level: under exchangeability of the run's images and the profile's, each test rejects with at most its share of the level, and by
Bonferroni all together with at most the level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.profiles.statistics import STATISTICS

__all__ = ["DRIFT_LEVEL", "Drift", "DriftTest", "Seen", "find_drift"]

DRIFT_LEVEL = 0.01  # of all tests of a run together
DIRECTIONS = ("higher", "lower")
NUMBER_OF_TESTS = len(STATISTICS) + len(DIRECTIONS)
WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("less contrast", "more contrast"),
    "sharpness": ("less sharp", "sharper"),
    "colour": ("bluer", "redder"),
    "image scores": ("lower image scores", "higher image scores"),
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a test knows of one image."""

    size_px: tuple[int, int]  # width, height
    is_deep: bool  # more than 8 bits a value
    statistics: Mapping[str, float]  # as `statistics_of` gives them
    image_score: float | None = None  # 0..1; None: nobody scored it


@dataclass(frozen=True, kw_only=True)
class DriftTest:
    """One comparison of a run with the good images."""

    what: str  # a name of `STATISTICS`, or "image scores"
    p_value: float  # 0..1
    good: float  # the median among the good images
    run: float  # the median in the run
    changed: bool  # p-value at or below this test's share of the level

    @property
    def words(self) -> str:
        """What has changed, with both medians."""
        return f"{WORDS[self.what][self.run > self.good]} (median {self.run:.3g}, good images {self.good:.3g})"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How a run compares with the good images of its profile."""

    level: float  # 0..1, the chance that a run of good images is called changed
    images: int  # of the run
    good_images: int  # of the profile
    tests: tuple[DriftTest, ...]  # empty where either side has too few images to ever reach the level
    other_sizes: int  # images of a size that no good image has
    other_depths: int  # images of a bit depth (8, or more) that no good image has

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of what has changed."""
        return tuple(test.what for test in self.tests if test.changed)

    @property
    def lines(self) -> tuple[str, ...]:
        """Sentences for a person: what has changed, or that nothing has."""
        found = []
        if any(test.changed for test in self.tests):
            words = ", ".join(test.words for test in self.tests if test.changed)
            found.append(
                f"drift: these {self.images} images do not look like the profile's good ones: {words}; "
                f"happens by chance in {100 * self.level:g} % of runs"
            )
        if self.other_sizes:
            found.append(f"drift: {self.other_sizes} of {self.images} images have a size that no good image had")
        if self.other_depths:
            found.append(f"drift: {self.other_depths} of {self.images} images have a bit depth that no good image had")
        if not found:
            found.append(
                f"drift: none found (level {100 * self.level:g} %)"
                if self.tests
                else f"drift: {self.images} images beside {self.good_images} good ones are too few to tell"
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON (docs/profiles.md)."""
        tests = [asdict(test) | {"p_value": round(test.p_value, 8)} for test in self.tests]
        return asdict(self) | {"tests": tests, "changed": list(self.changed), "lines": list(self.lines)}


def find_drift(run: Sequence[Seen], good: Sequence[Seen], *, level: float = DRIFT_LEVEL) -> Drift:
    """The comparison of a run's images with good ones.

    Args:
        run: The images of a run, good and bad.
        good: The good images of a profile, each with the score that it has without itself.
        level: The chance that a run of good images is called changed, 0..1.
    """
    each = level / NUMBER_OF_TESTS
    sizes, depths = Counter(image.size_px for image in good), Counter(image.is_deep for image in good)
    tests = []
    if _can_reach(each, len(run), len(good)):
        from scipy.stats import ks_2samp

        for name in STATISTICS:
            here, there = _values(run, name), _values(good, name)
            tests.append(_test(name, float(ks_2samp(here, there).pvalue), there, here, each))
    here, there = _scores(run), _scores(good)
    if _can_reach(each, len(here) // 2, len(there)):
        tests += _score_tests(here, there, each)
    return Drift(
        level=level,
        images=len(run),
        good_images=len(good),
        tests=tuple(tests),
        other_sizes=sum(image.size_px not in sizes for image in run),
        other_depths=sum(image.is_deep not in depths for image in run),
    )


def _score_tests(run: NDArray[np.float64], good: NDArray[np.float64], each: float) -> list[DriftTest]:
    """The test of the image scores in the direction in which they differ more."""
    from scipy.stats import mannwhitneyu

    half = len(run) // 2
    ordered = np.sort(run)
    lower, upper = ordered[:half], ordered[len(run) - half :]
    higher = _test("image scores", float(mannwhitneyu(lower, good, alternative="greater").pvalue), good, lower, each)
    smaller = _test("image scores", float(mannwhitneyu(upper, good, alternative="less").pvalue), good, upper, each)
    return [min(higher, smaller, key=lambda test: test.p_value)]


def _test(what: str, p_value: float, good: NDArray[np.float64], run: NDArray[np.float64], each: float) -> DriftTest:
    return DriftTest(
        what=what,
        p_value=p_value,
        good=float(np.median(good)),
        run=float(np.median(run)),
        changed=p_value <= each,
    )


def _can_reach(level: float, n: int, m: int) -> bool:
    """Whether the least p-value that n and m images can have, 2 n! m! / (n + m)!, is at most the level."""
    from scipy.special import gammaln

    return bool(n and m) and bool(np.log(2) + gammaln(n + 1) + gammaln(m + 1) - gammaln(n + m + 1) <= np.log(level))


def _values(images: Sequence[Seen], name: str) -> NDArray[np.float64]:
    return np.array([image.statistics[name] for image in images], np.float64)


def _scores(images: Sequence[Seen]) -> NDArray[np.float64]:
    return np.array([image.image_score for image in images if image.image_score is not None], np.float64)
