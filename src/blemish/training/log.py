"""The picture of a training's losses, from its log."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from blemish.errors import MissingExtraError
from blemish.io.atomic import replace_file
from blemish.io.log import read_log

__all__ = ["LOG_FILE", "PLOT_FILE", "plot_losses"]

LOG_FILE, PLOT_FILE = "log.jsonl", "losses.png"


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
