"""Which input size a method has where none is asked for, and which thresholds the card has for it."""

from __future__ import annotations

import pytest

import blemish


def test_each_method_of_the_embedded_backbone_has_its_own_input_size_and_thresholds() -> None:
    ensemble, faprompt = blemish.load(), blemish.load(method="faprompt")
    assert (ensemble.setup.input_px, faprompt.setup.input_px) == (320, 224)
    smaller = blemish.load(input_px=224)
    assert smaller.thresholds.image != ensemble.thresholds.image
    assert not any("thresholds" in line for own in (ensemble, faprompt, smaller) for line in own.engine.remarks)


def test_a_size_without_thresholds_says_so() -> None:
    unusual = blemish.load(input_px=288)
    assert (unusual.thresholds.image, unusual.thresholds.calibration) == (0.5, "uncalibrated")
    assert any("none for 288 px" in line for line in unusual.engine.remarks)


def test_a_size_that_the_backbone_does_not_take_is_refused() -> None:
    with pytest.raises(blemish.UsageError, match="multiples of 32"):
        blemish.load(input_px=300)
