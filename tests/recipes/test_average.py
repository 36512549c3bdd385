"""Averaged weights lie where the shares say, and only the same shapes are averaged."""

from __future__ import annotations

import argparse

import pytest
import torch
from recipes.real.average import averaged, part

from blemish.backbones.model import Clip
from blemish.errors import UsageError
from checkpoint_files import tiny_clip, tiny_config


def test_shares_count_in_proportion() -> None:
    first, second = tiny_clip(), Clip(tiny_config())
    mean = averaged([(first, 1.0), (second, 3.0)]).state_dict()
    for name, value in first.state_dict().items():
        torch.testing.assert_close(mean[name], 0.25 * value + 0.75 * second.state_dict()[name])


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(UsageError, match="shares above 0"):
        averaged([(tiny_clip(), 0.0)])
    with pytest.raises(UsageError, match="same configuration"):
        averaged([(tiny_clip(), 1.0), (Clip(tiny_config(joint_width=16)), 1.0)])
    with pytest.raises(argparse.ArgumentTypeError, match="NAME:SHARE"):
        part("embedded")
