"""How long a ViT-L/14 backbone takes to load from safetensors.

    python benchmarks/load.py [--rounds 5] [--json results.json]

A ViT-L-14 with random weights is written to a temporary folder in float32 (1.7 GB) and float16 (0.9 GB), then loaded with
`load_backbone` in a fresh process for each round, the file in the system's page cache. Python and torch are imported before
the clock starts. Float32 is mapped, so "first use" (every number read once, as the first image would) is given apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone
from blemish.io.codec import to_dict

GOAL_S = 1.5


def write_random(folder: Path, dtype: torch.dtype) -> None:
    config = catalog()["ViT-L-14"].config
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Clip(config).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = {name: (0.02 * torch.randn(shape, generator=generator)).to(dtype) for name, shape in shapes.items()}
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(to_dict(config)), encoding="utf-8")


def measure(folder: Path) -> None:
    """One round, in its own process: prints the figures as JSON."""
    start, processor = time.perf_counter(), time.process_time()
    clip = load_backbone(folder)
    loaded, processor = time.perf_counter() - start, time.process_time() - processor
    start = time.perf_counter()
    for parameter in clip.parameters():
        parameter.detach().sum()
    used = time.perf_counter() - start
    print(json.dumps({"load_s": loaded, "load_cpu_s": processor, "first_use_s": used}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    report = {}
    with tempfile.TemporaryDirectory() as place:
        for name, dtype in (("float32", torch.float32), ("float16", torch.float16)):
            folder = Path(place) / name
            write_random(folder, dtype)
            command = [sys.executable, __file__, "--measure", str(folder)]
            rounds = [
                json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout)
                for _ in range(options.rounds + 1)
            ][1:]  # the first fills the page cache
            figures = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            spread = [min(each["load_s"] for each in rounds), max(each["load_s"] for each in rounds)]
            report[name] = figures | {"load_s_range": spread, "bytes": (folder / "model.safetensors").stat().st_size}
            print(
                f"{name}: load {figures['load_s']:.2f} s (median of {options.rounds}, {spread[0]:.2f} to {spread[1]:.2f}, "
                f"goal {GOAL_S}), {figures['load_cpu_s']:.2f} CPU-s; first use {figures['first_use_s']:.2f} s"
            )
    if options.json:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "processors": os.cpu_count()}
        options.json.write_text(json.dumps(facts | {"figures": report}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
