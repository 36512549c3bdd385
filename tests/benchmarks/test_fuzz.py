"""`python -m benchmarks.fuzz`: damaged files of every format are read or refused, and whatever else happens is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.fuzz_seeds import make_seeds

from benchmarks import fuzz
from blemish import images
from blemish.errors import ImageError


def test_seeds_are_whole_files_of_every_format() -> None:
    kinds = {seed.kind for seed in make_seeds()}
    assert kinds >= {
        "JPEG",
        "PNG",
        "TIFF",
        "BMP",
        "WebP",
        "DICOM",
        "HEIC",
        "AVIF",
        "JPEG 2000",
        "JPEG XL",
        "GIF",
        "TGA",
    }
    for seed in make_seeds():
        assert images.read(seed.data, value_range=("1%", "99%")).pixels.shape[2] == 3, seed.name


def test_a_run_is_the_same_for_the_same_seed_and_no_file_is_like_another() -> None:
    files = [fuzz.mutated(make_seeds(), 0, index)[1] for index in range(150)]
    assert files == [fuzz.mutated(make_seeds(), 0, index)[1] for index in range(150)]
    assert len(set(files)) > 140
    assert files != [fuzz.mutated(make_seeds(), 1, index)[1] for index in range(150)]


def test_what_should_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(make_seeds()[0].data)
    assert fuzz.read_all(path) == "read"

    outcomes = {"refused": ImageError("a", "b"), "ZeroDivisionError: x": ZeroDivisionError("x")}
    for outcome, error in outcomes.items():

        def fail(*_: object, raised: Exception = error, **__: object) -> None:
            raise raised

        monkeypatch.setattr(images, "read", fail)
        assert fuzz.read_all(path) == outcome


def test_files_that_were_not_as_they_should_be_are_counted_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        {"index": 0, "outcome": "read", "s": 0.1, "bytes": 5},
        {"index": 1, "outcome": "ValueError: x", "s": 0.1, "bytes": 5},
        {"index": 2, "outcome": "refused", "s": 9.0, "bytes": 2 * 10**9},
        {"index": 3, "outcome": "crash (code -11)", "s": 0.0, "bytes": 0},
    ]
    monkeypatch.setattr(fuzz, "outcomes", lambda *_: iter(found))
    tallies = fuzz.run(4, keep=tmp_path)
    assert sum(len(tally.unexpected) for tally in tallies.values()) == 2
    assert [sum(len(getattr(tally, name)) for tally in tallies.values()) for name in ("slow", "large")] == [1, 1]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["1", "2", "3"]
    assert any(line.startswith("| all | 4 | 1 | 1 | 2 | 1 | 1 |") for line in fuzz.table(tallies))


def test_a_short_run_reads_or_refuses_every_file() -> None:
    assert_all_well(fuzz.run(120, seed=3))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_damaged_files_end_no_run() -> None:
    assert_all_well(fuzz.run(2000, seed=11))


def assert_all_well(tallies: dict[str, fuzz.Tally]) -> None:
    for kind, tally in tallies.items():
        assert (tally.unexpected, tally.slow, tally.large) == ([], [], []), kind
        assert tally.read + tally.refused == tally.files
