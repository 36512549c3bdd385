"""The log of a training, a JSON object a line, and the picture of its losses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from blemish.errors import MissingExtraError, OutputError
from blemish.io.atomic import reason, replace_file

__all__ = ["LOG_FILE", "PLOT_FILE", "Log", "plot_losses", "read_log"]

LOG_FILE, PLOT_FILE = "log.jsonl", "losses.png"


class Log:
    """Appends lines to a log. `cut_to` bytes of what is there are kept: what a killed run wrote after its last state goes."""

    def __init__(self, path: Path, *, cut_to: int) -> None:
        self.path = path
        try:
            self._file = path.open("ab")
            self._file.truncate(min(cut_to, path.stat().st_size))  # more would fill a log that was lost with zeros
        except OSError as error:
            raise self._refused(error) from error

    def write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise self._refused(error) from error

    def sync(self) -> int:
        """The length of the log in bytes, once all of it is on the disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error
        return self.path.stat().st_size

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({reason(error)}); the last state stays, run it again")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that a kill tore is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def plot_losses(folder: Path) -> None:
    """Draws every loss of the log in `folder` over the steps, and the means of the epochs; MissingExtraError without
    matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "the plot of the losses") from error
    records = read_log(folder / LOG_FILE)
    steps = [record for record in records if record["kind"] == "step"]
    epochs = [record for record in records if record["kind"] == "epoch"]
    names = list(dict.fromkeys(name for record in steps for name in record["losses"]))
    middles = [(before + after) / 2 for before, after in pairwise([0, *(r["step"] for r in epochs)])]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        drawn = [record for record in steps if name in record["losses"]]
        axis.plot([r["step"] for r in drawn], [r["losses"][name] for r in drawn], linewidth=0.6, color="#9db4c8")
        axis.plot(middles, [r["means"].get(name) for r in epochs], "o-", color="#1f4e79", ms=4)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    with replace_file(folder / PLOT_FILE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
