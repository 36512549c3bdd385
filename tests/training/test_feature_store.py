"""Kept features: the same numbers back, one file an image, and nothing trusted that is not whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import probe
from blemish.backbones.model import Clip
from blemish.errors import ModelError, OutputError, UnknownNameError
from blemish.methods import build
from blemish.methods.base import Features
from blemish.models import feature_cache as kept
from blemish.models.feature_cache import CacheDtype, FeatureStore, feature_store, stored_features

FEATURES = Features(
    global_feature=torch.randn(2, 16, generator=torch.Generator().manual_seed(0)),
    levels=tuple(torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(i)) for i in (1, 2)),
    grid=(3, 4),
)
DIGEST = "ab" * 32
OTHER = "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "kept", dtype="float16")


def write_both(store: FeatureStore) -> None:
    store.write(DIGEST, FEATURES, row=0, size_px=(640, 480))
    store.write(OTHER, FEATURES, row=1, size_px=(20, 30))


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0.0), ("float16", 2e-3), ("bfloat16", 2e-2)])
def test_what_was_kept_comes_back_as_one_batch_in_the_asked_order(
    tmp_path: Path, dtype: CacheDtype, error: float
) -> None:
    store = FeatureStore(tmp_path, dtype=dtype)
    write_both(store)
    back = store.read([OTHER, DIGEST, OTHER])
    assert back.grid == (3, 4)
    assert store.size_px(DIGEST) == (640, 480)
    for now, then in zip((back.global_feature, *back.levels), (FEATURES.global_feature, *FEATURES.levels), strict=True):
        assert now.dtype == torch.float32
        torch.testing.assert_close(now, then[[1, 0, 1]], atol=error, rtol=error)


def test_an_entry_takes_no_more_room_than_was_reckoned(store: FeatureStore) -> None:
    write_both(store)
    assert store.path(DIGEST).stat().st_size <= store.entry_bytes(FEATURES)


def test_an_entry_that_is_not_there_is_none_and_cannot_be_read(store: FeatureStore) -> None:
    assert store.size_px(DIGEST) is None
    with pytest.raises(ModelError, match="gone or damaged; run the same command again"):
        store.read([DIGEST])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99])
def test_a_torn_entry_is_not_trusted(store: FeatureStore, share: float) -> None:
    write_both(store)
    path = store.path(DIGEST)
    os.truncate(path, int(share * path.stat().st_size))
    assert store.size_px(DIGEST) is None
    assert store.size_px(OTHER) == (20, 30)


@pytest.mark.parametrize("start", [0, 600, -200, -1])
def test_an_entry_with_zeros_where_numbers_were_is_not_trusted(store: FeatureStore, start: int) -> None:
    write_both(store)
    path = store.path(DIGEST)
    whole = bytearray(path.read_bytes())
    whole[start:] = bytes(len(whole[start:]))
    if start == -1:  # one bit is enough
        whole = bytearray(path.read_bytes())
        whole[-1] ^= 1
    path.write_bytes(whole)
    assert store.size_px(DIGEST) is None


def test_an_entry_of_another_format_is_not_trusted(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write_both(store)
    monkeypatch.setattr(kept, "FORMAT", 2)
    assert store.size_px(DIGEST) is None


def test_a_full_disk_is_a_clear_error_and_leaves_no_part_of_an_entry(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_both(store)
    before = {path for path in store.folder.rglob("*") if path.is_file()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"no space left on device.*what is cached so far is kept.*BLEMISH_HOME"):
        store.write("ef" * 32, FEATURES, row=0, size_px=(1, 1))
    assert {path for path in store.folder.rglob("*") if path.is_file()} == before
    assert store.size_px("ef" * 32) is None


def test_room_is_looked_for_before_it_is_taken(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 5 * 10**9, 5 * 10**9))
    words = store.reserve(2000, bytes_each=2_100_000)
    assert words.startswith("features to cache: 2000 images x 2.10 MB = 4.20 GB in ")
    with pytest.raises(OutputError, match=r"= 6\.30 GB in .*but 5\.00 GB are free; make room"):
        store.reserve(3000, bytes_each=2_100_000)


def test_an_unknown_precision_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'float16'"):
        FeatureStore(tmp_path, dtype="flaot16")  # type: ignore[arg-type]


def folder_of(clip: Clip, root: Path, *, dtype: CacheDtype = "float16", **options: object) -> Path:
    return feature_store(build("faprompt", clip, {"patches": 2, **options}), dtype=dtype, root=root).folder


def test_only_what_decides_the_features_divides_them(tmp_path: Path) -> None:
    clip, other_weights = probe.tiny_clip(), probe.tiny_clip()
    with torch.no_grad():
        other_weights.image.projection.add_(0.1)
    other_size = probe.tiny_clip()
    other_size.config = replace(clip.config, preprocess=replace(clip.config.preprocess, mean=(0.1, 0.2, 0.3)))
    one = folder_of(clip, tmp_path, abnormality_prompts=1)
    assert one == folder_of(clip, tmp_path, abnormality_prompts=20, selection="released")
    others = [
        folder_of(clip, tmp_path, levels="backbone"),
        folder_of(clip, tmp_path, dtype="float32"),
        folder_of(other_weights, tmp_path),
        folder_of(other_size, tmp_path),
    ]
    assert len({one, *others}) == 5


def test_what_is_kept_can_be_listed_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_HOME", str(tmp_path))
    assert stored_features() == []
    store = feature_store(build("faprompt", probe.tiny_clip(), {"patches": 2}), dtype="float16")
    write_both(store)
    (listed,) = stored_features()
    assert listed.what == "features of 2 images (tiny at 32 px, faprompt, float16)"
    assert listed.place == store.folder
    assert listed.bytes == sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
