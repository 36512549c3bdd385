"""The streaming pixel metrics against the exact ones, and what makes them safe to merge and to resume."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import UsageError
from blemish.metrics import PixelRanking, aupro, image_metrics
from blemish.metrics.bins import Histogram
from blemish.metrics.codes import ScoreEncoding
from blemish.metrics.state import load_counts, nested, save_counts, under
from maps import KINDS, Maps, Masks, joined, make_maps

STREAMING = 1e-4
RANGES = [(0.0, 1.0), None]


def fed(
    maps: Maps, masks: Masks, *, rounds: int = 0, order: list[int] | None = None, **options: object
) -> PixelRanking:
    ranking = PixelRanking(rounds=rounds, **options)  # type: ignore[arg-type]
    for index in order or range(len(maps)):
        kind = f"type {index % 3}" if masks[index].any() else ""
        ranking.add(maps[index], masks[index], name=str(index), defect_type=kind)
    return ranking


def exact(maps: Maps, masks: Masks, *, limit: float = 0.3) -> dict[str, float]:
    found = image_metrics(joined(maps), joined(masks))
    return {name: float(value) for name, value in found.items()} | {"aupro": float(aupro(maps, masks, limit=limit))}


@pytest.mark.parametrize("score_range", RANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_equals_the_exact_one(kind: str, score_range: tuple[float, float] | None) -> None:
    maps, masks = make_maps(kind, images=12, side=128)
    found = fed(maps, masks, score_range=score_range).metrics()
    for name, value in exact(maps, masks).items():
        error = abs(float(found[name]) - value)
        assert error <= found[name].error_bound + 1e-7, (
            name
        )  # the bound is a bound; 1e-7 for weights that were made integers
        if (
            kind != "saturated softly" or score_range
        ):  # without its range the order next to 1 is lost, and the bound says so
            assert error <= STREAMING, name
        else:
            assert found["average_precision"].error_bound > STREAMING


@pytest.mark.parametrize("limit", [0.01, 0.3, 1.0])
def test_aupro_to_any_limit(limit: float) -> None:
    maps, masks = make_maps("random")
    assert float(fed(maps, masks).aupro(limit=limit)) == pytest.approx(
        exact(maps, masks, limit=limit)["aupro"], abs=STREAMING
    )


@pytest.mark.parametrize(
    ("score_range", "scale", "offset"), [((0.0, 4.0), 4, 0), ((-1.0, 1.0), 2, -1), (None, 3, 100), (None, 1e-3, -5)]
)
def test_scores_on_any_scale(score_range: tuple[float, float] | None, scale: float, offset: float) -> None:
    plain, masks = make_maps("random")
    maps = [(one * np.float32(scale) + np.float32(offset)) for one in plain]
    found = fed(maps, masks, score_range=score_range).metrics()
    for name, value in exact(maps, masks).items():
        assert float(found[name]) == pytest.approx(value, abs=STREAMING), name
    assert found["f1_max"].threshold == pytest.approx(
        image_metrics(joined(maps), joined(masks))["f1_max"].threshold, rel=1e-2
    )


def test_outliers_of_an_unknown_range_cost_nothing() -> None:
    maps, masks = make_maps("random")
    maps[0][0, :3] = (1e30, -1e30, 3e-38)
    found = fed(maps, masks, score_range=None).metrics()
    for name, value in exact(maps, masks).items():
        assert float(found[name]) == pytest.approx(value, abs=STREAMING), name


def test_ties_are_recognised_and_exact() -> None:
    maps, masks = make_maps("tied")
    assert [value.error_bound for value in fed(maps, masks).metrics().values()] == [0.0] * 5


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50),
    st.sampled_from([(0.0, 1.0), (0.0, 4.0), (-1.0, 1.0), None]),
)
def test_keys_sort_like_scores_and_come_back(shares: list[float], score_range: tuple[float, float] | None) -> None:
    low, high = score_range or (-3.0, 40.0)
    scores = np.sort(np.array([low + share * (high - low) for share in shares], np.float32))
    encoding = ScoreEncoding(score_range)
    keys = encoding.encode(scores)
    assert (np.diff(keys.astype(np.int64)) >= 0).all()
    assert encoding.decode(keys) == pytest.approx(scores, abs=1e-6 * (high - low))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(8)), st.integers(0, 8))
def test_order_and_merging_change_nothing_at_all(seed: int, order: list[int], cut: int) -> None:
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.integers(-6, 3, 8)
    maps = [(rng.normal(size=(5, 9)) * scale).astype(np.float32) for scale in scales]
    masks = [(rng.random((5, 9)) < 0.2) & (index % 2 == 1) for index in range(8)]
    masks[1][0, 0], masks[0][:] = True, False
    options = {"score_range": None, "bins": 1024, "rounds": 20}
    whole = fed(maps, masks, **options)  # type: ignore[arg-type]
    first = fed(maps, masks, order=order[:cut] or [order[0]], **options)  # type: ignore[arg-type]
    if rest := order[max(cut, 1) :]:
        first.merge(fed(maps, masks, order=rest, **options))  # type: ignore[arg-type]
    assert summary(first) == summary(whole)


def summary(ranking: PixelRanking) -> list[object]:
    tables = [ranking.steps(), *(ranking.steps(defect_type=name) for name in ranking.defect_types)]
    tables += [ranking.steps(size=name) for name in ranking.sizes]
    held: list[object] = [(t.thresholds.tolist(), {k: v.tolist() for k, v in sorted(t.added.items())}) for t in tables]
    held += [(name, value, value.interval) for name, value in ranking.metrics().items()]
    return [*held, ranking.images, ranking.regions(), ranking.lowest, ranking.highest]


def test_saved_and_pickled_rankings_continue(tmp_path: Path) -> None:
    maps, masks = make_maps("random")
    part = fed(maps, masks, rounds=20, order=[0, 1, 2, 3])
    facts, arrays = part.state()
    save_counts(tmp_path / "state.npz", "test", {"ranking": facts}, nested("ranking", arrays))
    facts, arrays = load_counts(tmp_path / "state.npz", "test")
    restored = PixelRanking.restored(facts["ranking"], under("ranking", arrays))
    pickled = pickle.loads(pickle.dumps(part))
    assert summary(restored) == summary(pickled) == summary(part)
    for index in range(4, len(maps)):
        for ranking in (restored, pickled):
            ranking.add(
                maps[index], masks[index], name=str(index), defect_type=f"type {index % 3}" * bool(masks[index].any())
            )
    assert summary(restored) == summary(pickled) == summary(fed(maps, masks, rounds=20))


def test_memory_does_not_grow_with_the_images() -> None:
    maps, masks = make_maps("random", images=4, side=48)
    ranking = fed(maps, masks, rounds=5)
    before = held_bytes(ranking)
    for repeat in range(10):
        for index, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
            ranking.add(scores, mask, name=f"{repeat}/{index}", defect_type=f"type {index % 3}" * bool(mask.any()))
    assert held_bytes(ranking) == before


def held_bytes(ranking: PixelRanking) -> int:
    return len(pickle.dumps(ranking)) // 1000


def test_a_type_is_its_images_and_the_normal_ones() -> None:
    maps, masks = make_maps("random")
    ranking = fed(maps, masks)
    chosen = [index for index in range(len(maps)) if not masks[index].any() or index % 3 == 2]
    values = exact([maps[index] for index in chosen], [masks[index] for index in chosen])
    found = ranking.metrics(defect_type="type 2")
    for name, value in values.items():
        assert float(found[name]) == pytest.approx(value, abs=STREAMING), name
    assert sum(ranking.regions(defect_type=name) for name in ranking.defect_types) == ranking.regions() > 0


def test_a_size_is_its_regions_against_all_normal_pixels() -> None:
    scores = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    mask = np.zeros((100, 100), bool)
    mask[3, 5] = mask[60:68, 10:18] = mask[80:, :60] = True  # 1, 64 and 1,200 of 10,000 pixels
    ranking = PixelRanking(rounds=0)
    ranking.add(scores, mask)
    assert ranking.sizes == ("below 0.1 %", "0.1–1 %", "10 % and more")
    normal = scores[~mask]
    for size, region in zip(ranking.sizes, (scores[3:4, 5:6], scores[60:68, 10:18], scores[80:, :60]), strict=True):
        assert (ranking.regions(size=size), ranking.images_of_size(size)) == (1, 1)
        labels = np.arange(normal.size + region.size) >= normal.size
        values = image_metrics(np.concatenate([normal, region.ravel()]), labels)
        found = ranking.metrics(size=size)
        for name, value in values.items():
            assert float(found[name]) == pytest.approx(float(value), abs=2e-4), name


def test_intervals_hold_the_estimate() -> None:
    maps, masks = make_maps("random", images=30, side=64)
    found = fed(maps, masks, rounds=100).metrics()
    for name in ("auroc", "average_precision", "f1_max", "aupro"):
        interval = found[name].interval
        assert interval is not None
        assert interval[0] < float(found[name]) < interval[1]
        assert interval[1] - interval[0] < 0.35


def test_intervals_agree_with_resampling_the_images_themselves() -> None:
    maps, masks = make_maps("random", images=24, side=40)
    interval = fed(maps, masks, rounds=200).auroc().interval
    assert interval is not None
    rng, drawn = np.random.default_rng(0), []
    for _ in range(100):
        chosen = rng.integers(0, len(maps), len(maps))
        drawn.append(exact([maps[index] for index in chosen], [masks[index] for index in chosen])["auroc"])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (interval[1] - interval[0]) / (high - low) == pytest.approx(1, abs=0.4)


def test_maps_are_refused_that_it_would_misjudge() -> None:
    ranking, blank = PixelRanking(), np.zeros((2, 2))
    bad = [
        (np.zeros((2, 3)), {}, "cannot be compared"),
        (np.full((2, 2), 1.5), {}, r"must lie in 0\.\.1, not 1\.5"),
        (np.full((2, 2), np.nan), {}, "4 of 4 scores are not"),
        (blank, {"defect_type": "scratch"}, "a normal image has no defect type"),
        (blank, {"defect_type": "normal", "anomalous": True}, "cannot be called 'normal'"),
    ]
    for scores, options, words in bad:
        with pytest.raises(UsageError, match=words):
            ranking.add(scores, blank, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no anomalous pixels"):
        ranking.add(blank, blank + 1, anomalous=False)
    assert ranking.images == 0
    ranking.add(blank, blank)
    assert "nothing anomalous" in ranking.auroc().reason
    assert ranking.aupro().reason == "AUPRO needs an anomalous region, and there is none"
    assert ranking.metrics(size="10 % and more")["auroc"].reason


def test_rounding_errors_of_a_softmax_are_inside_the_range() -> None:
    ranking = PixelRanking(rounds=0)
    ranking.add(np.array([[-1e-7, 1.0000002, 0.5]]), np.array([[0, 1, 0]]))
    assert float(ranking.auroc()) == 1.0


def test_settings_are_checked() -> None:
    for score_range in ((1.0, 0.0), (0.0, np.inf)):
        with pytest.raises(UsageError, match="low < high"):
            PixelRanking(score_range=score_range)
    with pytest.raises(UsageError, match="rise between 0 and 1"):
        PixelRanking(size_edges=(0.1, 0.01))
    with pytest.raises(UsageError, match="256 bins or more"):
        PixelRanking(bins=10)
    with pytest.raises(UsageError, match="different settings"):
        PixelRanking().merge(PixelRanking(score_range=None))
    with pytest.raises(UsageError, match="cannot be merged"):
        Histogram(bins=1024).merge(Histogram(bins=2048))
