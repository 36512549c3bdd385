"""What a run keeps of how its images look is bounded, and a fair sample."""

from __future__ import annotations

import numpy as np
import pytest

from blemish.runs import counts


def test_of_many_images_a_fair_sample_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST_SEEN", 50)
    found = counts.RunCounts()
    record = {"verdict": "ok", "error": None, "mask": None, "top_type": None, "value_range": None, "image_score": 0.1}
    for number in range(1000):
        seen = {"source": f"{number}", "statistics": {"brightness": number / 1000}, "width_px": 4, "height_px": 3}
        found.add({**record, **seen})
    kept = [image.statistics["brightness"] for image in found.seen]
    assert len(kept) == len(set(kept)) == 50
    assert np.mean(kept) == pytest.approx(0.5, abs=0.13)
