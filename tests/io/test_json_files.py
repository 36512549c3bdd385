"""One reader of JSON: every file that is none is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.errors import UsageError
from blemish.io.json_files import read_json, read_json_if_there, read_json_lines


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == read_json_if_there(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.json: cannot be read (no such file or directory)"),
        (b"", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"[1]", "holds no JSON object"),
    ],
)
def test_what_is_no_object_is_said(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_json(path)
    assert message in str(caught.value)
    assert read_json_if_there(path) == {}


def test_lines_come_one_by_one_and_a_torn_last_one_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": "\xc3')
    assert list(read_json_lines(path)) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b'{"a": 1}\nnonsense\n')
    with pytest.raises(UsageError, match="a line is not JSON"):
        list(read_json_lines(path))
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_json_lines(tmp_path / "none.jsonl"))
