"""What CONTRIBUTING.md says of plug-ins: its package of toys is built from the page, and used like what ships."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from blemish.errors import UnknownNameError
from blemish.images import save
from blemish.plugins import Registry
from blemish.synthesis import render

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```\w+\n# file: (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def install(files: dict[str, str], folder: Path) -> Path:
    """What pip makes of a package: its files, and the entry points of its pyproject.toml."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    points = [
        line
        for group, names in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()), "")
    ]
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    files = {**files, f"{info.name}/METADATA": metadata, f"{info.name}/entry_points.txt": "\n".join(points)}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return install(dict(BLOCK.findall(PAGE.read_text(encoding="utf-8"))), tmp_path / "site")


def run(code: str, site: Path, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """The code in a process of its own, in which the package is installed."""
    path = f"import sys\nsys.path[:0] = [{str(site)!r}, *{sys.path!r}]\n"
    return subprocess.run(
        [sys.executable, "-c", path + code], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )


def images(folder: Path) -> None:
    good = render(50_000_022).image
    dark = good.copy()
    dark[80:120, 80:120] = 0
    save(good, folder / "acme_bolts/ok_1.png")
    save(dark, folder / "acme_bolts/bent_1.png")


def test_a_package_made_from_the_page_is_used_like_what_ships(toys: Path, tmp_path: Path) -> None:
    images(tmp_path)
    code = """
import blemish
from blemish.data import open_data
for name in ("acme-bolts", "acme_bolts"):
    dataset = open_data(name)
    print(dataset.name, [(sample.name, sample.defect_type) for sample in dataset.samples])
for given in ({"method": "darkness"}, {"engine": "grey"}):
    inspector = blemish.load(defects="bent, cut", **given)
    results = list(inspector.inspect(iter(["acme_bolts/ok_1.png", "acme_bolts/bent_1.png"])))
    higher_score = results[0].image_score < results[1].image_score
    print(inspector.model.method, higher_score, results[1].anomaly_map.max() > results[0].anomaly_map.max())
blemish.inspect_folder("acme_bolts", out="results", method="darkness")
print(blemish.export("results", "lines", out="lines.txt"))
from blemish.cli import main
print(main(["export", "results", "--format", "lines", "--out", "again.txt", "--quiet"]))
print(main(["data", "check", "acme_bolts"]))
"""
    result = run(code, toys, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:2] == ["acme-bolts [('bent_1.png', 'bent bolt'), ('ok_1.png', '')]"] * 2
    assert lines[2:4] == ["darkness True True", "grey True True"]
    assert "2" in lines
    assert (tmp_path / "lines.txt").read_text().splitlines()[1].endswith("acme_bolts/ok_1.png")
    assert (tmp_path / "again.txt").read_text() == (tmp_path / "lines.txt").read_text()
    assert any("Bolts of ACME" in line for line in lines)


def test_a_plug_in_that_fails_is_named_with_its_package_and_the_rest_works(tmp_path: Path) -> None:
    project = "\n".join(
        [
            '[project]\nname = "broken-toys"\nversion = "2.0"',
            *(
                f'[project.entry-points."blemish.{group}"]\nbroken = "broken_toys:THING"\n'
                for group in ("methods", "datasets", "layouts", "exports", "engines")
            ),
        ]
    )
    site = install({"pyproject.toml": project, "broken_toys.py": "import nowhere_to_be_found\n"}, tmp_path / "site")
    images(tmp_path)
    (tmp_path / "words.toml").write_text("[types.bent]\n")
    code = """
import blemish
from blemish.cli import main
from blemish.data import known_sets, open_data
from blemish.errors import PluginError
print(len(known_sets()), open_data("synthetic:1").name, open_data("acme_bolts").name)
for action in (
    lambda: blemish.load(method="broken"),
    lambda: blemish.load(engine="broken"),
    lambda: open_data("broken"),
):
    try:
        action()
    except PluginError as error:
        print(error.package, error)
print(main(["vocabulary", "check", "words.toml"]))
print(main(["data", "list"]))
"""
    result = run(code, site, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    named = [line for line in result.stdout.splitlines() if line.startswith("broken-toys")]
    assert len(named) == 3
    for kind, line in zip(("method", "engine", "data set"), named, strict=True):
        assert f"the {kind} 'broken' of the package broken-toys cannot be used" in line
        assert "No module named 'nowhere_to_be_found'" in line
    assert "broken-toys" in result.stderr  # lists leave it out, and say so
    assert "ensemble, " in result.stdout
    assert "mvtec: " in result.stdout


def test_names_are_known_without_importing_what_they_stand_for() -> None:
    registry = Registry("blemish.nothing", "toy", {"top": "no_such_module:Top"})
    assert list(registry) == ["top"]
    assert "top" in registry
    with pytest.raises(UnknownNameError, match="unknown toy 'tpo'; did you mean 'top'"):
        registry["tpo"]
