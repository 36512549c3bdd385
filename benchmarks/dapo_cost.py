"""What DAPO costs: `python -m benchmarks.dapo_cost step|large|vocabulary`.

step         a training step of 8 images on the embedded backbone, released and clean, with the stem's features kept and without,
             and its parts; processor time of one thread, medians of interleaved rounds.
large        a training step of one image on ViT-L/14@336 at 518 px with random weights: time, and the highest memory.
vocabulary   preparing 13 and 200 types and scoring 8 images with them, on the embedded backbone: time and added memory, each in
             a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from blemish import models as store
from blemish.backbones.catalog import catalog
from blemish.backbones.model import Clip
from blemish.language import general, parse_defects
from blemish.methods import build
from blemish.methods.base import Method, Targets
from blemish.methods.text_cache import TextCache

BATCH = 8
LARGE = "ViT-L-14-336"
LARGE_PX = 518
COUNTS = (13, 200)


def seconds(run: Callable[[], object]) -> float:
    """Processor time."""
    started = time.process_time()
    run()
    return time.process_time() - started


def highest_mib() -> float:
    """The highest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def targets(count: int, size: int) -> Targets:
    """Half of the images normal, half with a square of the first type."""
    label = torch.arange(count) % 2 if count > 1 else torch.ones(1, dtype=torch.int64)
    mask = torch.zeros(count, size, size)
    mask[label > 0, size // 4 : size // 2, size // 4 : size // 2] = 1
    return Targets(label=label, mask=mask, type_id=label)


def training_step(method: Method, images: Tensor, truth: Targets, *, kept: bool) -> Callable[[], object]:
    """One forward and backward pass; `kept` starts from what `encode_frozen` gives."""
    with torch.no_grad():
        frozen = method.encode_frozen(images)

    def run() -> None:
        method.zero_grad()
        with torch.no_grad():
            start = frozen if kept else method.encode_frozen(images)
        method.loss(method.encode_trained(start), truth, general()).total.backward()  # type: ignore[no-untyped-call]

    return run


def step(rounds: int) -> None:
    clip = store.load_backbone("embedded")
    size = clip.config.preprocess.size
    images, truth = torch.randn(BATCH, 3, size, size), targets(BATCH, size)
    runs: dict[str, Callable[[], object]] = {}
    for variant in ("released", "clean"):
        method = build("dapo", clip, {"variant": variant}).train()
        method.backbone.eval()
        runs[f"{variant}: a step, stem computed"] = training_step(method, images, truth, kept=False)
        runs[f"{variant}: a step, stem kept"] = training_step(method, images, truth, kept=True)
        runs[f"{variant}: its text side alone"] = lambda method=method: (  # type: ignore[misc]
            (method.embed_normal().sum() + method.embed_types(general().types).sum()).backward()
        )
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            found = seconds(run)
            if number:  # the first warms up
                took[name].append(found)
    for name, values in took.items():
        print(f"{name}: {statistics.median(values):.2f} CPU-s ({min(values):.2f} to {max(values):.2f})")


def large(rounds: int) -> None:
    torch.manual_seed(0)
    clip = Clip(catalog()[LARGE].config)
    images, truth = torch.randn(1, 3, LARGE_PX, LARGE_PX), targets(1, LARGE_PX)
    method = build("dapo", clip, {"variant": "released"}).train()
    method.backbone.eval()
    before = highest_mib()
    run = training_step(method, images, truth, kept=False)
    values = [seconds(run) for _ in range(rounds)]
    print(
        f"{LARGE} at {LARGE_PX} px, a step of one image: {statistics.median(values):.0f} CPU-s; "
        f"highest memory {highest_mib() / 1024:.1f} GiB ({before / 1024:.1f} with the model alone)"
    )


def vocabulary(rounds: int) -> None:
    for count in COUNTS:
        command = [sys.executable, "-m", "benchmarks.dapo_cost", "--rounds", str(rounds), f"types-{count}"]
        print(subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout.strip())


def types(count: int, rounds: int) -> None:
    clip = store.load_backbone("embedded")
    size = clip.config.preprocess.size
    method = build("dapo", clip, {}).eval()
    names = [*general().names, *(f"kind {number} of defect" for number in range(200))][:count]
    images = torch.randn(BATCH, 3, size, size)
    with torch.inference_mode():
        method.encode(images)
        before = highest_mib()
        cache, asked = TextCache(), parse_defects(names)
        encoded = seconds(lambda: method.encode_texts(asked, cache=cache))
        again = seconds(lambda: method.encode_texts(asked, cache=cache))
        texts = method.encode_texts(asked, cache=cache)
        features = method.encode(images)
        scored = statistics.median(seconds(lambda: method.score(features, texts)) for _ in range(rounds))
    print(
        f"{count} types: encoded in {encoded:.2f} CPU-s, again in {again:.3f}; {BATCH} images scored in {scored:.3f}; "
        f"memory {highest_mib() - before:.0f} MiB above the encoder's"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="step, large or vocabulary")
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if settings.what.startswith("types-"):
        types(int(settings.what.removeprefix("types-")), settings.rounds)
    else:
        {"step": step, "large": large, "vocabulary": vocabulary}[settings.what](settings.rounds)


if __name__ == "__main__":
    main()
