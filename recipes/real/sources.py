"""Public repositories with photos of real things, as `sources.toml` lists them, and reading files out of their snapshots."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from blemish.errors import UsageError

PERMISSIVE = ("MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0")


@dataclass(frozen=True)
class PhotoSource:
    """One entry of sources.toml; what its fields mean stands at the head of that file."""

    name: str
    repository: str
    licence: str
    licence_file: str
    credit: str
    pattern: str
    kind: str = ""
    labels: bool = False
    names: tuple[str, ...] = ()
    per_kind: int = 1_000_000


def photo_sources() -> tuple[PhotoSource, ...]:
    """All entries of sources.toml; UsageError for a licence that is not permissive."""
    text = resources.files("recipes.real").joinpath("sources.toml").read_text(encoding="utf-8")
    found = []
    for entry in tomllib.loads(text)["photos"]:
        if entry["licence"] not in PERMISSIVE:
            raise UsageError(
                f"sources.toml: {entry['name']} has the licence {entry['licence']}; {PERMISSIVE} are allowed"
            )
        found.append(PhotoSource(**{**entry, "names": tuple(entry.get("names", ()))}))
    return tuple(found)


class Snapshot:
    """A public repository as a bare git folder below `mirror`: files are read from its newest commit."""

    def __init__(self, mirror: Path, repository: str) -> None:
        place = mirror / repository.replace("/", "+") / "repo"
        self.repository = repository
        self.folder = place / ".git" if (place / ".git").is_dir() else place
        if not (self.folder / "HEAD").is_file():
            raise UsageError(f"{place}: no snapshot of {repository}; fetch it, or leave its entry out of sources.toml")
        self.commit = self._git("rev-parse", "HEAD").decode().strip()

    def paths(self) -> list[str]:
        """All files of the commit, sorted."""
        listed = self._git("ls-tree", "-r", "-z", "--name-only", "HEAD").decode("utf-8", "surrogateescape")
        return sorted(path for path in listed.split("\0") if path)

    def text(self, path: str) -> str:
        """A text file of the commit; UsageError where it is missing."""
        return self._git("show", f"HEAD:{path}").decode("utf-8", "replace")

    def contents(self, paths: list[str]) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of these files, in their order, from one git process; those the snapshot lacks are left out."""
        process = subprocess.Popen(
            ["git", f"--git-dir={self.folder}", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            for path in paths:
                process.stdin.write(f"HEAD:{path}\n".encode("utf-8", "surrogateescape"))
                process.stdin.flush()
                head = process.stdout.readline().split()
                if len(head) != 3 or head[1] != b"blob":
                    continue
                content = process.stdout.read(int(head[2]))
                process.stdout.read(1)
                yield path, content
        finally:
            process.stdin.close()
            process.stdout.close()
            process.wait(timeout=60)

    def _git(self, *arguments: str) -> bytes:
        done = subprocess.run(["git", f"--git-dir={self.folder}", *arguments], capture_output=True, check=False)
        if done.returncode:
            raise UsageError(
                f"{self.repository}: git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout


def chosen_paths(source: PhotoSource, paths: list[str]) -> list[tuple[str, str]]:
    """Path and kind of the photos of a source, at most `per_kind` of a kind where paths alone tell the kind.

    Exports of annotation tools hold several changed copies of one photo ("NAME.rf.DIGEST.jpg"): the first by name counts.
    """
    pattern, counts, found, originals = re.compile(source.pattern), dict[str, int](), [], set[str]()
    for path in paths:
        match = pattern.fullmatch(path)
        original = re.sub(r"\.rf\.[0-9a-f]+", "", path.rsplit("/", 1)[-1])
        if match is None or original in originals:
            continue
        if ".rf." in path:
            originals.add(original)
        kind = match.groupdict().get("kind") or source.kind or source.name
        counts[kind] = counts.get(kind, 0) + 1
        if source.labels or counts[kind] <= source.per_kind:
            found.append((path, kind))
    return found


def labelled_things(text: str, names: tuple[str, ...]) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Kind and box (left, top, right, bottom; shares of the image's sides) of each line of a YOLO label file, boxes or
    polygons; lines of classes without a name are left out."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        try:
            index, values = int(fields[0]), [float(field) for field in fields[1:]]
        except (ValueError, IndexError):
            continue
        name = (names[index] if index < len(names) else "") if names else "thing"
        if len(values) == 4:
            x, y, width, height = values
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        elif len(values) >= 6:
            box = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
        else:
            continue
        if name:
            found.append((name, box))
    return found
