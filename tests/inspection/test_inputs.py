"""What Python callers have at hand as an image: it works, or fails at the call with one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from blemish.errors import UsageError
from blemish.images import save
from fakes import darkness_inspector

PIXELS = np.full((24, 32, 3), 51, np.uint8)


def test_open_files_and_tensors_score_as_the_array_does(tmp_path: Path) -> None:
    inspector = darkness_inspector()
    path = save(PIXELS, tmp_path / "a.png")
    expected = inspector.inspect(PIXELS).image_score
    tensor = torch.from_numpy(PIXELS)
    with path.open("rb") as file:
        given = [file, io.BytesIO(path.read_bytes()), tensor, tensor.permute(2, 0, 1), tensor[..., 0]]
        for image in given:
            assert inspector.inspect(image).image_score == expected
    assert [result.image_score for result in inspector.inspect([tensor, tensor])] == [expected, expected]


def test_what_is_not_one_image_fails_at_the_call(tmp_path: Path) -> None:
    inspector = darkness_inspector()
    with pytest.raises(UsageError, match=r"is a folder; blemish\.inspect_folder inspects it"):
        inspector.inspect(tmp_path)
    with pytest.raises(UsageError, match=r"is a batch: give list\(tensor\)"):
        inspector.inspect(torch.zeros(2, 3, 8, 8))
    text = tmp_path / "a.txt"
    text.write_text("words")
    with text.open() as file, pytest.raises(UsageError, match="opened in binary mode"):
        inspector.inspect(file)


def test_8_bit_values_in_16_bits_are_inspected_with_a_note() -> None:
    result = darkness_inspector().inspect(PIXELS.astype(np.uint16))
    assert "fit into 8 bits" in result.tags["note"]
    assert "note: its 16-bit values fit into 8 bits (highest: 51), and were read as 0 to 1023" in repr(result)
    assert "note" not in repr(darkness_inspector().inspect(PIXELS))
