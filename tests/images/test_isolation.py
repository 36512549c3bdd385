"""Decoders that may crash or stall run in a process of their own."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish import images
from blemish.errors import ImageError
from blemish.images import isolation
from blemish.images.reader import decode_here

PIXELS = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.fixture
def jp2() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG2000")
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _no_process_before_or_after() -> Iterator[None]:
    isolation.stop_all()
    yield
    isolation.stop_all()


def pids() -> list[int]:
    return [process.child.pid for process in isolation._processes]


def test_files_and_bytes_come_back_as_they_would_here(jp2: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jp2")
    path.write_bytes(jp2)
    for item in (jp2, bytearray(jp2), path, str(path)):
        samples = images.decode(item)
        np.testing.assert_array_equal(samples.values, PIXELS)
        here = decode_here(item, source=samples.source, max_megapixels=200)
        assert (here.source, here.declared_bits, here.tags) == (samples.source, samples.declared_bits, samples.tags)
    assert len(pids()) == 1
    assert pids() != [os.getpid()]


def test_a_relative_path_is_that_of_the_program_wherever_it_has_gone(
    jp2: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.decode(jp2)  # starts the process, here
    (tmp_path / "a.jp2").write_bytes(jp2)
    monkeypatch.chdir(tmp_path)
    samples = images.decode("a.jp2")
    np.testing.assert_array_equal(samples.values, PIXELS)
    assert samples.source == "a.jp2"


def test_what_is_wrong_with_a_file_is_said_as_here(jp2: bytes) -> None:
    for item in (jp2[: len(jp2) // 2], jp2[:300]):
        with pytest.raises(ImageError) as elsewhere:
            images.decode(item, source="a.jp2")
        with pytest.raises(ImageError) as here:
            decode_here(item, source="a.jp2", max_megapixels=200)
        assert str(elsewhere.value) == str(here.value)


def test_a_file_that_takes_too_long_is_an_image_error_and_the_next_is_read(
    jp2: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.decode(jp2)
    (before,) = pids()
    monkeypatch.setattr(isolation, "time_limit", lambda _: 0.0)
    with pytest.raises(ImageError, match=r"took longer than 0 s to decode"):
        images.decode(jp2, source="a.jp2")
    monkeypatch.undo()
    np.testing.assert_array_equal(images.decode(jp2).values, PIXELS)
    assert before not in pids()


def test_a_decoder_that_computes_without_end_is_ended(
    jp2: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("resource")
    (tmp_path / "endless.py").write_text(
        textwrap.dedent("""
            import sys
            from blemish.images import decoder_process, isolation
            isolation.send(sys.stdout.buffer, {"ready": True}, {})
            request, _ = isolation.receive(sys.stdin.buffer)
            decoder_process._limit(request["memory"], request["seconds"])
            while True:
                pass
        """),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(isolation, "MODULE", "endless")
    monkeypatch.setattr(isolation, "time_limit", lambda _: 1.0)
    monkeypatch.setattr(isolation, "CLOCK_FACTOR", 100.0)
    with pytest.raises(ImageError, match=r"a\.jp2: took longer than 1 s to decode"):
        images.decode(jp2, source="a.jp2")


def test_a_file_that_takes_too_much_memory_is_an_image_error(jp2: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)).save(stream, "JPEG2000")
    monkeypatch.setattr(isolation, "_memory_limit", lambda: 2**20)
    with pytest.raises(ImageError, match=r"memory|cannot be decoded"):
        images.decode(stream.getvalue())
    monkeypatch.undo()
    np.testing.assert_array_equal(images.decode(jp2).values, PIXELS)


def test_a_decoder_that_crashes_is_an_image_error(jp2: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing.py").write_text(
        textwrap.dedent("""
            import os, sys
            from blemish.images import isolation
            isolation.send(sys.stdout.buffer, {"ready": True}, {})
            isolation.receive(sys.stdin.buffer)
            os.abort()
        """),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(isolation, "MODULE", "crashing")
    with pytest.raises(ImageError, match=r"a\.jp2: its decoder crashed"):
        images.decode(jp2, source="a.jp2")
    monkeypatch.undo()
    np.testing.assert_array_equal(images.decode(jp2).values, PIXELS)


def test_where_no_process_can_be_started_files_are_decoded_here(jp2: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MODULE", "no_such_module")
    monkeypatch.setattr(isolation, "_failed_to_start", False)
    np.testing.assert_array_equal(images.decode(jp2).values, PIXELS)
    assert pids() == []
    assert not isolation.can_isolate()


def test_a_process_that_was_ended_is_replaced(jp2: bytes) -> None:
    images.decode(jp2)
    isolation._processes[0].child.kill()
    isolation._processes[0].child.wait()
    np.testing.assert_array_equal(images.decode(jp2).values, PIXELS)


def test_ordinary_files_need_none() -> None:
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).save(stream, kind)
        images.decode(stream.getvalue())
    assert pids() == []


def test_a_file_that_grows_far_beyond_pictures_gets_one() -> None:
    stream = io.BytesIO()
    Image.new("L", (4200, 4200)).save(stream, "PNG")
    assert images.decode(stream.getvalue()).values.shape == (4200, 4200, 3)
    assert len(pids()) == 1
