"""Imports go one way, and what must be quick imports nothing heavy."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import blemish

SOURCE = Path(blemish.__file__).parent
OLD_RUN = Path(__file__).parent / "runs" / "version_0.1"
FLOORS = (
    {"cli", "__main__"},
    {"serve"},
    {"scale"},
    {"training", "evaluation"},
    {"exports", "reports"},
    {"runs"},
    {"inspection"},
    {"profiles"},
    {"calibration", "engines"},
    {"models", "synthesis"},
    {"methods", "data", "metrics"},
    {"language"},
    {"backbones"},
    {"results"},
    {"drawing"},
    {"images", "config"},
    {"maps", "io"},
    {"plugins"},
    {"errors", "_version"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a module imports, at its top or inside functions; not those for type checkers only."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("blemish.")}
    return found - {room_of(path)}


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in modules()} <= set(FLOOR_OF)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_never_go_up(path: Path) -> None:
    here = FLOOR_OF[room_of(path)]
    up = {room for room in imported_rooms(path) if FLOOR_OF.get(room, here) < here}
    assert not up, f"{path} imports {up} from a floor above"


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        graph.setdefault(room_of(path), set()).update(imported_rooms(path) & set(FLOOR_OF))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"rooms import each other: {error.args[1]}")


def imported_by(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(result.stdout.splitlines()[-1].split())


HEAVY = {"torch", "numpy", "scipy", "PIL"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not imported_by("import blemish") & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["inspect", "--help"],
        ["calibrate", "--help"],
        ["report", "--help"],
        ["export", "--help"],
        ["serve", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not imported_by(f"from blemish.cli import main\nassert main({arguments!r}) == 0") & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "inspection.load",
        "inspection.inspector",
        "calibration",
        "engines",
        "runs.run",
        "runs.calibrate",
        "runs.rethreshold",
        "reports.report",
        "exports.formats",
    ],
)
def test_what_surrounds_the_engine_imports_without_torch(module: str) -> None:
    assert "torch" not in imported_by(f"import blemish.{module}")


def test_a_run_is_decided_again_without_torch(tmp_path: Path) -> None:
    shutil.copytree(OLD_RUN, tmp_path, dirs_exist_ok=True)
    command = f"['rethreshold', {str(tmp_path / 'run')!r}, '--threshold', '0.5', '-q']"
    assert "torch" not in imported_by(f"from blemish.cli import main\nassert main({command}) == 0")
