"""Real images are laid out from snapshots with their licence, and nothing that only measures gets among them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from recipes.real.sources import PhotoSource, Snapshot, chosen_paths, labelled_things, photo_sources

from blemish.errors import UsageError
from recipes import real_images


def picture(seed: int, side: int = 240) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, format=kind)
    return stored.getvalue()


def snapshot(mirror: Path, repository: str, files: dict[str, bytes]) -> Snapshot:
    """A bare repository with these files, as the mirror holds them."""
    work, place = mirror / "work", mirror / repository.replace("/", "+") / "repo"
    for name, content in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)
    name = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "-A"], [*name, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=work, check=True)
    place.parent.mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(place)], check=True)
    return Snapshot(mirror, repository)


SOURCE = PhotoSource("things", "a/b", "MIT", "LICENSE", "A. B.", r"photos/(?P<kind>[^/]+)/[^/]+\.png", per_kind=2)


def test_photos_are_laid_out_once_each_with_kind_licence_and_digest(tmp_path: Path) -> None:
    files = {"LICENSE": b"MIT", "photos/cup/1.png": encoded(picture(1)), "photos/cup/2.png": encoded(picture(1))}
    files |= {
        "photos/nut/1.png": encoded(picture(2)),
        "photos/nut/2.png": b"no image",
        "other.png": encoded(picture(3)),
    }
    files["photos/nut/3.png"] = encoded(picture(4, side=50))  # too small to draw into
    found = list(real_images._photos(SOURCE, snapshot(tmp_path, "a/b", files), tmp_path / "out", frozenset(), set()))
    assert [(record.kind, record.licence, record.credit) for record in found] == [
        ("cup", "MIT", "A. B."),
        ("nut", "MIT", "A. B."),
    ]
    assert all((tmp_path / "out" / record.file).is_file() for record in found)
    real_images.write_manifest(tmp_path / "out", found)
    assert real_images.read_manifest(tmp_path / "out") == found


def test_an_image_of_a_measured_set_is_refused_whatever_its_file_format(tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "x.bmp").write_bytes(encoded(picture(7), "BMP"))
    refused = real_images.measured_digests([tmp_path / "measured"])
    found = snapshot(tmp_path, "a/b", {"LICENSE": b"MIT", "photos/cup/1.png": encoded(picture(7))})
    with pytest.raises(UsageError, match=r"a/b: photos/cup/1\.png: an image of a set that only measures"):
        list(real_images._photos(SOURCE, found, tmp_path / "out", refused, set()))


def test_a_source_without_its_licence_file_is_refused(tmp_path: Path) -> None:
    found = snapshot(tmp_path, "a/b", {"photos/cup/1.png": encoded(picture(1))})
    with pytest.raises(UsageError, match="LICENSE, which states the licence, is not there"):
        list(real_images._photos(SOURCE, found, tmp_path / "out", frozenset(), set()))


def test_a_missing_snapshot_and_a_missing_folder_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no snapshot of a/b; fetch it"):
        Snapshot(tmp_path, "a/b")
    with pytest.raises(UsageError, match="no such folder"):
        real_images.measured_digests([tmp_path / "nothing"])


def mvtec(place: Path, *, masks: bool, good: int = 20) -> Path:
    for name, seed in (("train/good/0.png", 10), ("test/good/1.png", good), ("test/scratch/2.png", 30)):
        (place / "nut" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "nut" / name).write_bytes(encoded(picture(seed)))
    if masks:
        mask = np.zeros((240, 240), np.uint8)
        mask[50:60, 50:60] = 255
        (place / "nut/ground_truth/scratch").mkdir(parents=True)
        (place / "nut/ground_truth/scratch/2_mask.png").write_bytes(encoded(mask))
    return place


def test_an_own_set_joins_with_its_masks_and_types(tmp_path: Path) -> None:
    found = list(real_images.own_set(mvtec(tmp_path / "mine", masks=True), tmp_path / "out", frozenset()))
    assert [record.kind for record in found] == ["nut"] * 3
    mask = np.asarray(Image.open(next((tmp_path / "out/real/mine/nut/ground_truth/scratch").iterdir())))
    assert (mask > 0).sum() == 100


def test_an_own_set_without_masks_or_with_measured_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mask"):
        list(real_images.own_set(mvtec(tmp_path / "bare", masks=False), tmp_path / "out", frozenset()))
    refused = frozenset({real_images.pixel_digest(picture(77))})
    with pytest.raises(UsageError, match="an image of a set that only measures"):
        list(real_images.own_set(mvtec(tmp_path / "bad", masks=True, good=77), tmp_path / "out", refused))


def test_every_listed_source_is_permissive_and_its_pattern_compiles() -> None:
    for source in photo_sources():
        assert source.licence in ("MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0")
        assert chosen_paths(source, ["README.md"]) == []


def test_of_augmented_copies_only_the_first_is_taken() -> None:
    source = PhotoSource("x", "a/b", "MIT", "L", "", r"train/.+\.jpg", kind="nut")
    paths = ["train/one_jpg.rf.aaa.jpg", "train/one_jpg.rf.bbb.jpg", "train/two_jpg.rf.ccc.jpg"]
    assert [path for path, _ in chosen_paths(source, paths)] == [paths[0], paths[2]]


def test_labels_are_boxes_or_polygons_and_unnamed_classes_are_left_out() -> None:
    text = "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.2 0.2\n0 0.1 0.2 0.3 0.2 0.3 0.6\nnonsense\n"
    found = labelled_things(text, ("nut", ""))
    assert [name for name, _ in found] == ["nut", "nut"]
    assert found[0][1] == pytest.approx((0.4, 0.3, 0.6, 0.7))
    assert found[1][1] == pytest.approx((0.1, 0.2, 0.3, 0.6))
