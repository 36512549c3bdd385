"""What is named, found: folders, lists, tables and object stores; and what cannot be found said in one line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from object_store import served
from PIL import Image
from pyarrow import parquet

from blemish.errors import ImageError, UnknownNameError, UsageError
from blemish.images import save
from blemish.scale.manifest import Manifest, write_manifest
from blemish.scale.sources import ImageSource, list_sources, read_bytes


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for name in ("part10.png", "part2.png", "sub/part1.png"):
        save(np.full((6, 8), 90, np.uint8), tmp_path / "parts" / name)
    return tmp_path / "parts"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The host of a server with two images and a text."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "mine",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    held = io.BytesIO()
    Image.fromarray(np.full((6, 8), 90, np.uint8)).save(held, "PNG")
    with served({"line/b.png": held.getvalue(), "line/a.png": held.getvalue(), "line/notes.txt": b"text"}) as host:
        yield host


def names(*named: object, column: str | None = None) -> list[str]:
    return [source.name for source in list_sources(list(map(str, named)), column=column)]


def table(path: Path, **columns: list[object]) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_folders_are_listed_as_on_one_machine(parts: Path) -> None:
    assert names(parts) == [(parts / name).as_posix() for name in ("part2.png", "part10.png", "sub/part1.png")]


def test_a_table_gives_its_rows_in_their_order(parts: Path) -> None:
    listed = table(parts / "list.parquet", image=["sub/part1.png", "/elsewhere/x.png", "s3://b/k.png"], score=[1, 2, 3])
    found = list(list_sources([str(listed)], column="image"))
    assert [source.location for source in found] == [f"{parts}/sub/part1.png", "/elsewhere/x.png", "s3://b/k.png"]
    assert [source.name for source in found] == ["sub/part1.png", "/elsewhere/x.png", "s3://b/k.png"]


def test_a_column_that_is_not_there_is_named_with_the_nearest(parts: Path) -> None:
    listed = table(parts / "list.parquet", image=["a.png"], score=[1])
    with pytest.raises(UnknownNameError, match="did you mean 'image'"):
        names(listed, column="imge")
    with pytest.raises(UsageError, match="--column image or score"):
        names(listed)


def test_a_row_that_is_no_path_and_a_table_that_is_none_are_refused(parts: Path) -> None:
    with pytest.raises(UsageError, match="holds None, which is no path"):
        names(table(parts / "list.parquet", image=["a.png", None]), column="image")
    (parts / "text.parquet").write_text("text")
    with pytest.raises(UsageError, match=r"text\.parquet: cannot be read as a Parquet table"):
        names(parts / "text.parquet", column="image")
    with pytest.raises(UsageError, match="no such file"):
        names(parts / "nowhere.parquet", column="image")


def test_images_on_a_web_server_are_read(store: str) -> None:
    address = f"http://{store}/images/line/a.png"
    assert names(address) == [address]
    assert read_bytes(address, name="a").startswith(b"\x89PNG")
    with pytest.raises(ImageError, match=r"^b: .*HTTP 404"):
        read_bytes(f"http://{store}/images/line/none.png", name="b")
    with pytest.raises(ImageError, match=r"^c: .*HTTP 403"):
        read_bytes(f"http://{store}/closed/a.png", name="c")


def test_a_server_that_does_not_answer_is_said() -> None:
    with pytest.raises(ImageError, match="cannot be reached"):
        read_bytes("http://127.0.0.1:9/a.png", name="a")


def test_a_bucket_is_listed_and_read(store: str) -> None:
    query = f"scheme=http&endpoint_override={store}&region=here"
    found = list(list_sources([f"s3://images/line?{query}"]))
    assert [source.name for source in found] == ["s3://images/line/a.png", "s3://images/line/b.png"]
    assert read_bytes(found[0].location, name="a").startswith(b"\x89PNG")


def test_a_bucket_without_permission_is_said(store: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be listed \(permission denied"):
        names(f"s3://closed/line?scheme=http&endpoint_override={store}&region=here")
    with pytest.raises(ImageError, match="permission denied"):
        read_bytes(f"s3://closed/line/a.png?scheme=http&endpoint_override={store}&region=here", name="a")


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(UsageError, match="no file system is known for it"):
        names("nosuch://bucket/folder")


# the list on the disk


def sources(count: int) -> list[ImageSource]:
    return [ImageSource(f"{number}\udcff.png", f"/images/{number}\udcff.png") for number in range(count)]


@pytest.mark.parametrize(("count", "expected"), [(1, (1,)), (4, (4,)), (9, (4, 4, 1))])
def test_a_list_is_read_back_shard_by_shard(tmp_path: Path, count: int, expected: tuple[int, ...]) -> None:
    written = write_manifest(iter(sources(count)), tmp_path, shard_images=4)
    manifest = Manifest.open(tmp_path)
    assert (manifest, manifest.counts, manifest.images) == (written, expected, count)
    assert [source for shard in range(len(expected)) for source in manifest.shard(shard)] == sources(count)


def test_a_damaged_list_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images were named"):
        write_manifest(iter(()), tmp_path)
    assert not list(tmp_path.glob("*"))
    (tmp_path / "sources.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="list of images cannot be read"):
        Manifest.open(tmp_path)
