"""Pairs hold one defect that stands out on the thing, and shards keep them as they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.real import pairs
from recipes.real.pairs import (
    LEAST_RATIO,
    TYPES,
    Pair,
    held_out,
    photo_pairs,
    read_shard,
    render_pair,
    thing_in,
    write_shard,
)
from recipes.real_images import Record, write_manifest

from blemish.errors import UsageError
from blemish.synthesis.spots import luminance


def disc(side: int = 300, radius: int = 70) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2
    pixels = np.full((side, side, 3), 200, np.uint8)
    pixels[y**2 + x**2 < radius**2] = (60, 90, 30)
    return pixels


def test_the_thing_is_what_differs_from_the_rim() -> None:
    thing = thing_in(disc())
    assert 0.1 < (thing > 0.5).mean() < 0.25  # the disc covers 0.17
    assert thing[64, 64] > 0.9 and thing[5, 5] < 0.1


def test_without_a_thing_the_middle_stands_in() -> None:
    thing = thing_in(np.full((200, 200, 3), 128, np.uint8))
    assert thing[64, 64] > 0.9 and thing[2, 2] < 0.1


def test_a_rendered_pair_differs_in_one_visible_defect() -> None:
    pair = next(one for one in (render_pair(seed, 224) for seed in range(70_000_000, 70_000_010)) if one is not None)
    change = np.abs(luminance(pair.bad / np.float32(255)) - luminance(pair.good / np.float32(255)))
    assert pair.defect_type in TYPES[1:]
    assert pair.ratio >= LEAST_RATIO
    assert change[pair.mask].mean() > 3 * change[~pair.mask].mean()


def test_a_defect_is_drawn_into_a_surface_that_fills_the_picture() -> None:
    surface = np.random.default_rng(0).normal(128, 6, (500, 700, 3)).clip(0, 255).astype(np.uint8)
    made = (pairs.material_pair(surface, "cloth", np.random.default_rng(seed)) for seed in range(10))
    pair = next(one for one in made if one is not None)
    change = np.abs(pair.bad.astype(int) - pair.good.astype(int))
    assert pair.kind == "cloth" and pair.good.shape == (448, 448, 3)
    assert change[pair.mask].mean() > 2 * change[~pair.mask].mean()


def test_shards_keep_pairs_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2, 448, 448, 3), np.uint8)
    pair = Pair(pixels[0], pixels[1], rng.random((448, 448)) > 0.5, "scratch", "a/cup", 1.5)
    write_shard([pair], tmp_path / "0000")
    read = read_shard(tmp_path / "0000")[0]
    assert (read.defect_type, read.kind, read.ratio) == ("scratch", "a/cup", 1.5)
    assert np.array_equal(read.bad, pair.bad) and np.array_equal(read.mask, pair.mask)


def test_photo_pairs_come_from_the_held_out_kinds_or_from_the_others(tmp_path: Path) -> None:
    kinds = {
        judge: next(f"k{n}" for n in range(100) if held_out("things", f"k{n}") == judge) for judge in (False, True)
    }
    Image.fromarray(disc()).save(tmp_path / "disc.png")
    records = [Record("disc.png", "things", kind, "photo", "MIT", "A. B.", "") for kind in kinds.values()]
    write_manifest(tmp_path, records)
    for judge, kind in kinds.items():
        pair = next(photo_pairs(tmp_path, judge=judge, count=1, seed=0))
        assert pair.kind == f"things/{kind}"
        assert pair.good.shape == (448, 448, 3) and pair.mask.any()
    write_manifest(tmp_path, records[:1])
    with pytest.raises(UsageError, match="no photos that are held out"):
        next(photo_pairs(tmp_path, judge=True, count=1, seed=0))


def test_the_command_makes_as_many_pairs_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SHARD", 2)
    monkeypatch.setattr(pairs, "render_pair", lambda _: Pair(disc(64), disc(64), np.eye(64) > 0, "scratch", "x", 1.0))
    monkeypatch.setattr(sys, "argv", ["pairs", "--out", str(tmp_path), "--count", "3"])
    pairs.main()
    assert [len(read_shard(folder)) for folder in sorted(tmp_path.iterdir())] == [2, 1]
