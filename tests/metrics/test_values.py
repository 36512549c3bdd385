"""Values that are numbers or say why not, their means, and the files in which counts wait."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blemish.errors import OutputError, UsageError
from blemish.metrics import Value, mean
from blemish.metrics.state import load_counts, save_counts
from blemish.metrics.values import undefined, with_interval


def test_a_value_reads_well_and_is_ready_for_json() -> None:
    value = Value(value=0.91234, interval=(0.9, 0.92), error_bound=1e-6, threshold=0.4)
    assert str(value) == "0.912 (0.900–0.920)"
    assert json.loads(json.dumps(value.to_dict())) == {
        "value": 0.91234,
        "why": "",
        "interval": [0.9, 0.92],
        "error_bound": 1e-6,
        "threshold": 0.4,
        "without": [],
    }
    assert str(undefined("no masks")) == "undefined: no masks"
    assert undefined("no masks").to_dict().keys() == value.to_dict().keys()


def test_an_undefined_value_is_never_a_number() -> None:
    with pytest.raises(UsageError, match="no masks"):
        float(undefined("no masks"))
    with pytest.raises(ValueError, match="has a reason"):
        Value(value=None)
    with pytest.raises(ValueError, match="finite"):
        Value(value=float("nan"))


def test_a_mean_names_what_it_leaves_out() -> None:
    found = mean({"a": Value(value=0.5, error_bound=0.2), "b": undefined("no masks"), "c": Value(value=1.0)})
    assert (found.value, found.without, found.error_bound) == (0.75, ("b",), 0.1)
    assert str(found) == "0.750 without b"
    assert mean({"b": undefined("no masks")}).reason == "there is nothing to average (b: no masks)"
    assert mean({}).reason == "there is nothing to average (no values at all)"


def test_the_interval_of_a_mean_is_over_resamples_of_all() -> None:
    values = {
        name: with_interval(Value(value=0.5), np.linspace(0.5 - width, 0.5 + width, 101))
        for name, width in (("a", 0.1), ("b", 0.3))
    }
    assert mean(values, confidence=0.9).interval == pytest.approx((0.5 - 0.18, 0.5 + 0.18))
    assert mean({**values, "c": Value(value=0.5)}).interval is None


def test_no_interval_where_most_resamples_lack_a_class() -> None:
    replicates = np.array([0.5] * 3 + [np.nan] * 2)
    assert with_interval(Value(value=0.5), replicates).interval is None
    assert with_interval(undefined("no masks"), replicates) == undefined("no masks")


def test_files_that_hold_no_state_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with pytest.raises(UsageError, match="no saved state"):
        load_counts(path, "mine")
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(UsageError, match="no saved state"):
        load_counts(path, "mine")
    np.savez(path, facts=np.array([{"a": "pickled"}], dtype=object))
    with pytest.raises(UsageError, match="no saved state"):
        load_counts(path, "mine")
    save_counts(path, "another", {}, {})
    with pytest.raises(UsageError, match="'another' and not 'mine'"):
        load_counts(path, "mine")
    with pytest.raises(OutputError):
        save_counts(path / "below a file", "mine", {}, {})
