"""The unit for systemd and the file for containers: what they name is there; built where a builder is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from blemish.cli.serve import serve

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "blemish.service"
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
BASE = "docker.io/library/python:3.11-slim-bookworm"
INSTRUCTIONS = {
    *("FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "ENV"),
}


INSPECTION = """
import blemish, numpy
print(blemish.load().inspect(numpy.full((64, 64, 3), 200, numpy.uint8)).verdict.value)
"""


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile with their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def options() -> set[str]:
    """Every option of `blemish serve`."""
    return {name for parameter in get_command(serve).params for name in parameter.opts}


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here (on Debian: apt-get install systemd)")
    unit = tmp_path / "blemish.service"
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/blemish/bin/blemish", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in done.stderr.splitlines() if "blemish.service" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_unit_gives_options_that_there_are() -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(encoding="utf-8"), re.M)
    program, command, *rest = shlex.split(line)
    assert (Path(program).name, command) == ("blemish", "serve")
    assert {word for word in rest if word.startswith("-")} <= options()


def test_the_container_names_what_there_is() -> None:
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0] == ("FROM", BASE.rpartition("/")[2])
    for name, arguments in found:
        if name == "COPY":
            *sources, target = arguments.split()
            assert all((ROOT / source).exists() for source in sources), arguments
            assert target.endswith("/") or len(sources) == 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"/src\[([a-z,]+)\]", " ".join(arguments for _, arguments in found))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    needed = {project["readme"], *project.get("license-files", ())}
    copied = " ".join(arguments for name, arguments in found if name == "COPY").split()
    assert {each for each in needed if isinstance(each, str) and (ROOT / each).is_file()} <= set(copied)


def test_the_container_runs_the_service_as_nobody_special() -> None:
    found = dict(instructions())
    assert found["USER"] == "blemish"
    assert json.loads(found["ENTRYPOINT"]) == ["blemish", "serve"]
    words = json.loads(found["CMD"])
    assert {word for word in words if word.startswith("-")} <= options()
    assert words[words.index("--data") + 1] == found["VOLUME"] == found["WORKDIR"]
    assert f":{found['EXPOSE']}/health/live" in found["HEALTHCHECK"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_container_is_built_without_a_network(tmp_path: Path) -> None:
    """BLEMISH_WHEELS names a folder with all wheels; the base image, or its stand-in, is in buildah's store. Else skipped.

    pip download -c constraints.txt -d wheels ".[serve,camera,postgres]" "hatchling>=1.25"; sh tests/serve/base_image.sh
    """
    wheels = os.environ.get("BLEMISH_WHEELS")
    if wheels is None or shutil.which("buildah") is None:
        pytest.skip("this takes buildah and BLEMISH_WHEELS, a folder of wheels (pip download)")
    if subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {BASE} is not here, and nothing is fetched")
    (tmp_path / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    mounts = ["--volume", f"{wheels}:/wheels:ro", "--volume", f"{tmp_path}/pip.conf:/etc/pip.conf:ro"]
    build = ["buildah", "build", "--pull-never", "--isolation", "chroot", *mounts, "--file", str(CONTAINERFILE)]
    alone = ["unshare", "--net"] if os.getuid() == 0 else []  # nothing can be reached from there
    subprocess.run([*alone, *build, "--tag", "blemish-test", str(ROOT)], check=True, timeout=1700)
    made = subprocess.run(
        ["buildah", "from", "--pull-never", "blemish-test"], check=True, capture_output=True, text=True, timeout=300
    ).stdout.strip()
    try:
        run = [*alone, "buildah", "run", "--isolation", "chroot", made, "--"]

        def said(*command: str) -> str:
            return subprocess.run([*run, *command], check=True, capture_output=True, text=True, timeout=300).stdout

        assert said("blemish", "serve", "token", "create", "admin", "--scope", "admin", "--data", "/data").startswith(
            "blemish_"
        )
        assert said("id", "--user", "--name") == "blemish\n"
        assert said("python", "-c", INSPECTION) == "ok\n"
    finally:
        subprocess.run(["buildah", "rm", made], check=True, timeout=120)
        subprocess.run(["buildah", "rmi", "blemish-test"], check=True, timeout=120)
