"""A profile in a file: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blemish.calibration import Setup
from blemish.config import Config
from blemish.engines.base import ReferenceMemory
from blemish.errors import UsageError
from blemish.language import parse_defects
from blemish.profiles import GoodImage, ProductProfile, read_profile, write_profile
from blemish.profiles.drift import Seen
from blemish.profiles.file import kept_config
from blemish.results import ModelInfo

MODEL = ModelInfo(backbone="tiny", method="greys", version="0", fingerprint="0123456789abcdef")


@pytest.fixture
def profile() -> ProductProfile:
    seen = Seen(size_px=(8, 6), is_deep=True, statistics={"brightness": 0.5}, image_score=0.25)
    return ProductProfile(
        memory=ReferenceMemory({"map0": np.arange(6, dtype=np.float16).reshape(1, 6)}, {"digests": ["ab"]}),
        model=MODEL,
        setup=Setup(
            model=MODEL,
            vocabulary="",
            input_px=64,
            mean=(0.0,),
            std=(1.0,),
            value_range=(0, 4095),
            references="1 image",
        ),
        config=kept_config(Config().with_settings(method="greys", options={"a": [1, 2]}, threshold=0.5), input_px=64),
        vocabulary=parse_defects("dent, burr"),
        images=(GoodImage(source="a.png", digest="cd", seen=seen, map_peak=0.5, memory_digest="ab"),),
        calibration=None,
        roi=np.eye(6, 8, dtype=bool),
    ).with_history(what="learned")


def test_everything_is_read_back(profile: ProductProfile, tmp_path: Path) -> None:
    written = write_profile(profile, tmp_path / "part.blemish")
    found = read_profile(tmp_path / "part.blemish")
    assert found.to_dict() == profile.to_dict()
    assert found.identity == written.identity == profile.identity
    assert found.images == profile.images
    assert found.vocabulary == profile.vocabulary
    assert found.roi is not None
    np.testing.assert_array_equal(found.roi, np.eye(6, 8, dtype=bool))
    np.testing.assert_array_equal(found.memory.arrays["map0"], profile.memory.arrays["map0"])
    assert (found.path, found.name) == (tmp_path / "part.blemish", f"part.blemish ({found.identity})")


def test_another_array_or_fact_is_another_profile(profile: ProductProfile) -> None:
    arrays = {"map0": profile.memory.arrays["map0"] + np.float16(1)}
    changed = [
        replace(profile, memory=replace(profile.memory, arrays=arrays)),
        replace(profile, roi=None),
        replace(profile, vocabulary=None),
        profile.with_history(what="changed"),
    ]
    assert len({each.identity for each in [profile, *changed]}) == 5


def test_settings_that_are_given_come_before_those_of_the_profile(profile: ProductProfile) -> None:
    assert profile.merged(Config()).model.method == "greys"
    assert profile.merged(Config()).input.input_px == 64
    assert profile.merged(Config().with_settings(method="other")).model.method == "other"
    assert profile.merged(Config().with_settings(input_px=128)).input.input_px == 128
    assert profile.merged(Config()).thresholds.threshold is None


def test_what_is_no_profile_is_one_line(profile: ProductProfile, tmp_path: Path) -> None:
    from safetensors.numpy import save

    other = tmp_path / "other.blemish"
    for content in (b"", b"{}", save({"a": np.zeros(2)}), save({"a": np.zeros(2)}, metadata={"blemish": "[1]"})):
        other.write_bytes(content)
        with pytest.raises(UsageError, match="is no profile"):
            read_profile(other)
    with pytest.raises(UsageError, match="cannot be read"):
        read_profile(tmp_path)
