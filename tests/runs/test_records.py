"""Records as JSON lines and table rows, and names of pictures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.images import FoundImage
from blemish.io.json_files import json_line, json_text
from blemish.runs.names import output_names
from blemish.runs.records import CSV_COLUMNS, csv_row

RECORD = {
    "schema": "blemish.inspection/1",
    "source": 'a, "b"\n划痕.png',
    "width_px": 4,
    "height_px": 3,
    "verdict": "ng",
    "image_score": 0.25,
    "thresholds": {
        "image": 0.2,
        "review": None,
        "pixel": 0.5,
        "calibration": "user",
        "pixel_calibration": "uncalibrated",
    },
    "top_type": "Kratzer, fein",
    "types": {"Kratzer, fein": 0.5},
    "regions": [{"type": "Kratzer, fein", "box_px": [0, 0, 1, 1]}],
    "value_range": [0, 4095],
    "model": {"backbone": "b", "method": "m", "version": "v"},
    "overlay": None,
    "mask": None,
}


def test_a_line_of_json_is_one_line_and_comes_back() -> None:
    for ascii_only in (False, True):
        line = json_line(RECORD, ascii_only=ascii_only)
        assert "\n" not in line
        assert line.isascii() is ascii_only
        assert json.loads(line) == RECORD
    assert json.loads(json_text(RECORD)) == RECORD


def test_a_file_name_that_is_not_text_can_still_be_written() -> None:
    odd = {**RECORD, "source": "\udcff.png"}
    json_line(odd).encode("utf-8")
    assert json.loads(json_line(odd))["source"] == "\udcff.png"
    assert csv_row(odd)["source"] == r"\udcff.png"


def test_not_a_number_never_reaches_a_file() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        json_line({"score": float("nan")})


def test_a_row_holds_every_column_and_comes_back_through_the_csv_reader() -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS)
    writer.writeheader()
    writer.writerow(csv_row(RECORD))
    (row,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    assert row["source"] == RECORD["source"]
    assert (row["threshold"], row["review_threshold"], row["value_high"]) == ("0.2", "", "4095")
    assert json.loads(row["regions"]) == RECORD["regions"]


def names(*found: tuple[str, str]) -> list[str]:
    return [str(name) for name in output_names([FoundImage(Path(path), Path(root)) for path, root in found])]


def test_names_keep_the_tree_below_the_folder_asked_for() -> None:
    assert names(("in/sub/a.png", "in"), ("in/b.v2.jpg", "in")) == ["sub/a", "b.v2"]
    assert names(("x/in/sub/a.png", "x/in/sub")) == ["a"]
    assert names(("x/a/1.png", "x/a"), ("x/b/1.png", "x/b")) == ["a/1", "b/1"]


def test_several_folders_are_told_apart_by_as_few_parts_as_do() -> None:
    assert names(("/data/images/1.png", "/data/images"), ("/home/me/renders/1.png", "/home/me/renders")) == [
        "images/1",
        "renders/1",
    ]
    assert names(("a/ok/1.png", "a/ok"), ("b/ok/1.png", "b/ok"), ("a/ok/x/2.png", "a/ok")) == [
        "a/ok/1",
        "b/ok/1",
        "a/ok/x/2",
    ]
    assert names(("in/../else/1.png", "in"), ("in/2.png", "in")) == ["1", "2"]


def test_names_that_would_fall_together_keep_their_suffix_or_get_a_number() -> None:
    assert names(("in/a.png", "in"), ("in/A.jpg", "in")) == ["a.png", "A.jpg"]
    assert len(set(names(("in/a.png", "in"), ("in/a.jpg", "in"), ("in/a.jpg.bmp", "in")))) == 3


def test_no_picture_takes_the_place_of_a_folder() -> None:
    assert names(("in/1.jpg/a.png", "in"), ("in/1.png", "in")) == ["1.jpg/a", "1.png"]
    assert names(("in/1.png", "in"), ("in/1.PNG/a.png", "in")) == ["1.png", "1.PNG/a"]


paths = st.lists(
    st.tuples(
        st.sampled_from(["r", "r/s", "q"]),
        st.sampled_from(["a", "A", "a.b", "b", "a.jpg/b", "A.png/a"]),
        st.sampled_from([".png", ".JPG", ".b"]),
    ),
    unique=True,
    max_size=12,
)


@given(paths)
def test_names_are_always_unique_where_case_is_ignored(parts: list[tuple[str, str, str]]) -> None:
    found = names(*((f"{root}/{stem}{suffix}", root) for root, stem, suffix in parts))
    assert len({name.casefold() for name in found}) == len(parts)
    assert not any(name.startswith(("/", "..")) for name in found)
    folders = {str(folder).casefold() for name in found for folder in PurePosixPath(name).parents}
    assert not folders & {name.casefold() + suffix for name in found for suffix in (".jpg", ".png")}
