"""What training costs: `python -m benchmarks.training epoch|memory|cache-dtype|precision`.

epoch        an epoch of FAPrompt with kept features against one that computes them in every step: the embedded backbone on
             rendered images, in interleaved rounds; and ViT-L/14 at 518 px with random weights, where the image tower is timed
             on a few images and the step on features of that shape, and the epoch's figures follow from the two.
memory       an epoch over kept features of 2,000 images of ViT-L/14 at 518 px (random ones, 4.2 GB on the disk, every one of
             them read), in a process of its own whose anonymous memory is watched.
cache-dtype  what the precision of kept features does to losses and held-out figures, with the spread of seeds beside it.
precision    bf16 mixed precision against fp32: time of a step and losses.

Times are processor time of one thread unless --threads says more, because the machines are shared; minutes are wall-clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from blemish import models as store
from blemish.backbones.catalog import catalog
from blemish.backbones.config import BackboneConfig
from blemish.backbones.model import Clip
from blemish.data.samples import DataSet, Split
from blemish.images import Picture
from blemish.io.codec import to_dict
from blemish.io.prefetch import in_chunks
from blemish.io.progress import Reporter
from blemish.language import general
from blemish.methods import build
from blemish.methods.base import Features, Targets
from blemish.models.feature_cache import FeatureStore, feature_store
from blemish.synthesis import rendered
from blemish.training import Recipe, train
from blemish.training.batches import Batch, Source, cache_features
from blemish.training.examples import examine
from blemish.training.loop import Trainer, TrainingSettings, order_of_epoch

LARGE = "ViT-L-14-336"
GRID = 37  # patches a side at 518 px
METHOD = "faprompt"
HELD_OUT = 50_000_000
SAMPLED_EVERY_S = 0.05


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def seconds(run: Callable[[], object]) -> float:
    """Processor time, that of background reading included."""
    started = time.process_time()
    run()
    return time.process_time() - started


# an epoch with kept features against one without


def epoch(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _embedded_epoch(Path(folder), images=arguments.images, rounds=arguments.rounds)
    _large_epoch(images=arguments.tower_images, rounds=arguments.rounds)


def _embedded_epoch(folder: Path, *, images: int, rounds: int) -> None:
    clip = store.load_backbone("embedded")
    method = build(METHOD, clip)
    kept = feature_store(method, dtype="float16", root=folder)
    examples = examine(drawn(images, first_seed=1_000), size=clip.config.preprocess.size, store=kept)
    filling = seconds(lambda: cache_features(method, [examples], kept, device=torch.device("cpu"), reporter=Reporter()))
    sources = {
        "kept": Source(examples, clip.config.preprocess, kept),
        "computed": Source(examples, clip.config.preprocess),
    }
    trainers = {name: _trainer(METHOD, clip, source, folder) for name, source in sources.items()}
    took: dict[str, list[float]] = {name: [] for name in sources}
    for number in range(rounds):
        for name, trainer in trainers.items():
            batches = in_chunks(order_of_epoch(images, seed=0, epoch=number), 8)
            took[name].append(seconds(lambda t=trainer, b=batches: [t.step(batch) for batch in t.source.feed(b)]))  # type: ignore[misc]
    ratio = statistics.median(slow / fast for slow, fast in zip(took["computed"], took["kept"], strict=True))
    print(f"embedded backbone, 224 px, {images} images, batch 8, medians of {rounds} interleaved rounds")
    for name, values in took.items():
        print(f"  features {name:9s} {statistics.median(values):8.2f} CPU-s an epoch")
    print(f"  {ratio:.1f} times as fast; filling the cache once took {filling:.1f} CPU-s")


def _large_epoch(*, images: int, rounds: int) -> None:
    clip = large_clip()
    method = build(METHOD, clip)
    batch = random_batch(8)
    trainer = _trainer(METHOD, clip, None, Path())
    size = clip.config.preprocess.size
    towers, steps = [], []
    for _ in range(rounds):
        pictures = torch.randn(1, 3, size, size)
        with torch.inference_mode():
            towers.append(seconds(lambda p=pictures: [method.encode(p) for _ in range(images)]) / images)  # type: ignore[misc]
        steps.append(seconds(lambda: trainer.step(batch)))
    tower, step = statistics.median(towers), statistics.median(steps)
    with_tower = statistics.median((8 * t + s) / s for t, s in zip(towers, steps, strict=True))
    print(f"{LARGE} shape, {size} px, random weights, batch 8, medians of {rounds} interleaved rounds")
    print(f"  image tower {tower:.2f} CPU-s an image ({images} a round), step on kept features {step:.2f} CPU-s")
    print(f"  so a step that computes them: {8 * tower + step:.1f} CPU-s, {with_tower:.1f} times as long")
    hours = [(1725 * tower + 7 * 216 * step) / 3600, 7 * (1725 * tower + 216 * step) / 3600]
    print(f"  and 7 epochs of 1,725 images: {hours[0]:.1f} CPU-h with kept features, {hours[1]:.1f} without (derived)")


# memory


def memory(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_large(folder / "backbone")
        environment = {**os.environ, "BLEMISH_HOME": str(folder / "home")}
        command = [sys.executable, "-m", "benchmarks.training", "memory-child", "--folder", name]
        command += [
            "--images",
            str(arguments.cached_images),
            "--steps",
            str(arguments.steps),
            "--threads",
            str(arguments.threads),
        ]
        started = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            peaks = watch(process)
            said = process.stdout.read().strip() if process.stdout else ""
        if process.returncode:
            raise SystemExit(f"the child process failed: {said}")
        print(said)
        print(
            f"peak of anonymous memory {peaks['RssAnon'] / 1e6:.2f} GB, with mapped files {peaks['VmRSS'] / 1e6:.2f} GB; "
            f"{(time.perf_counter() - started) / 60:.1f} min"
        )


def watch(process: subprocess.Popen[str]) -> dict[str, float]:
    """The highest values in kB that /proc shows of a process while it runs."""
    peaks = {"RssAnon": 0.0, "VmRSS": 0.0}
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        for line in lines:
            name, _, value = line.partition(":")
            if name in peaks:
                peaks[name] = max(peaks[name], float(value.split()[0]))
        time.sleep(SAMPLED_EVERY_S)
    process.wait()
    return peaks


def memory_child(arguments: argparse.Namespace) -> None:
    """Writes the features, then trains one epoch over all of them."""
    folder = Path(arguments.folder)
    clip = store.load_backbone(folder / "backbone")
    kept = feature_store(build(METHOD, clip), dtype="float16")
    data = made_up(arguments.images)
    print(kept.reserve(arguments.images, bytes_each=kept.entry_bytes(random_features(1))))
    fill_with_noise(kept, data)
    if arguments.steps:
        data = replace(data, samples=data.samples[: 8 * arguments.steps])
    recipe = Recipe(epochs=1)
    done = train(METHOD, data, backbone=clip, out=folder / "out", recipe=recipe, command="benchmarks.training memory")
    print(f"an epoch over {len(data.samples)} images: {done.history[0]['seconds']:.0f} s, "
          f"mean loss {done.history[0]['means']['total']:.3f}")  # fmt: skip


def fill_with_noise(kept: FeatureStore, data: DataSet) -> None:
    """An entry for every sample: the same noise, each turned by another number of places, so that no two are equal."""
    features = random_features(1)
    for number, sample in enumerate(data.samples):
        moved = replace(features, levels=(features.levels[0].roll(number % (GRID * GRID), dims=1),))
        kept.write(sample.digest(), moved, row=0, size_px=(518, 518))


# precision of what is kept, and of a step


def cache_dtype(arguments: argparse.Namespace) -> None:
    runs = {
        "float32, seed 111": Recipe(cache_dtype="float32"),
        "float16, seed 111": Recipe(cache_dtype="float16"),
        "bfloat16, seed 111": Recipe(cache_dtype="bfloat16"),
        "float32, seed 112": Recipe(cache_dtype="float32", seed=112),
    }
    compare({name: replace(recipe, epochs=arguments.epochs) for name, recipe in runs.items()}, arguments.images)


def precision(arguments: argparse.Namespace) -> None:
    runs = {
        "fp32, seed 111": Recipe(),
        "bf16, seed 111": Recipe(precision="bf16"),
        "fp32, seed 112": Recipe(seed=112),
    }
    compare({name: replace(recipe, epochs=arguments.epochs) for name, recipe in runs.items()}, arguments.images)
    clip, batch = large_clip(), random_batch(8)
    trainers = {kind: _trainer(METHOD, clip, None, Path(), precision=kind) for kind in ("fp32", "bf16")}
    steps: dict[str, list[float]] = {kind: [] for kind in trainers}
    losses: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for kind, trainer in trainers.items():
            started = time.process_time()
            found = trainer.step(batch)
            steps[kind].append(time.process_time() - started)
            losses.setdefault(kind, found["total"])
    print(
        f"{LARGE} shape, 518 px, random weights and features, batch 8, medians of {arguments.rounds} interleaved rounds"
    )
    for kind, values in steps.items():
        print(f"  {kind}: {statistics.median(values):.2f} CPU-s a step, loss of the first {losses[kind]:.5f}")


def compare(recipes: dict[str, Recipe], images: int) -> None:
    """Trainings of the embedded backbone side by side; the first is what the others are compared with."""
    data, held_out = drawn(images, first_seed=2_000), drawn(images, first_seed=HELD_OUT)
    print(f"embedded backbone, {images} rendered images, {images} held out")
    titles = ("first loss", "last mean", "off by", "image AUROC", "pixel AUROC", "wall s/epoch")
    print(f"  {'':20s}" + "".join(f"{title:>13s}" for title in titles))
    reference: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ[store.HOME_VARIABLE] = str(Path(name) / "home")
        for title, recipe in recipes.items():
            out = Path(name) / title
            done = train(METHOD, data, out=out, recipe=recipe, held_out=held_out, command="benchmarks.training")
            first = json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])["losses"]["total"]
            means = [record["means"] for record in done.history]
            reference = reference or means
            off = max(abs(now["total"] / then["total"] - 1) for now, then in zip(means, reference, strict=True))
            last = done.history[-1]
            each = statistics.median(record["seconds"] for record in done.history)
            figures = (last["held_out"]["image_auroc"], last["held_out"]["pixel_auroc"], each)
            print(
                f"  {title:20s}{first:13.6f}{last['means']['total']:13.5f}{off:13.3%}"
                + "".join(f"{figure:13.4f}" for figure in figures)
            )


# what all of them need


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture in memory."""

    name: str
    pixels: NDArray[np.uint8] | NDArray[np.float32]
    truth: NDArray[np.bool_]
    product: str = "synthetic"
    split: Split = "train"
    has_mask: bool = True
    defect_type: str = ""
    folder: str = ""

    @property
    def anomalous(self) -> bool:
        return bool(self.truth.any())

    def digest(self) -> str:
        return f"{int(self.name[5:]):064x}"

    def picture(self) -> Picture:
        return Picture(self.pixels, self.name)

    def mask(self) -> NDArray[np.bool_]:
        return self.truth


def _truth(mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    assert mask is not None  # every rendered sample has one
    return mask


def drawn(count: int, *, first_seed: int) -> DataSet:
    """Rendered pictures, drawn now, so that drawing them is not timed."""
    data = rendered(count, first_seed=first_seed)
    made = (Drawn(sample.name, sample.picture().pixels, _truth(sample.mask())) for sample in data.samples)
    return DataSet("drawn", tuple(made), "image+pixel", variant=data.variant)


def made_up(count: int) -> DataSet:
    """Samples of 518 px whose pictures nobody asks for, two of three with a square defect."""
    square = np.zeros((518, 518), bool)
    square[200:320, 150:300] = True
    blank, none = np.zeros((518, 518, 3), np.uint8), np.zeros((518, 518), bool)
    made = (Drawn(f"noise{number:06d}", blank, square if number % 3 else none) for number in range(count))
    return DataSet("noise", tuple(made), "image+pixel")


def random_features(count: int) -> Features:
    generator = torch.Generator().manual_seed(0)
    whole = torch.nn.functional.normalize(torch.randn(count, 768, generator=generator), dim=-1)
    places = torch.nn.functional.normalize(torch.randn(count, GRID * GRID, 768, generator=generator), dim=-1)
    return Features(whole, (places,), (GRID, GRID))


def random_batch(count: int) -> Batch:
    data = made_up(count)
    labels = torch.tensor([int(sample.anomalous) for sample in data.samples])
    masks = torch.stack([torch.from_numpy(_truth(sample.mask())).float() for sample in data.samples])
    return Batch(np.arange(count), random_features(count), Targets(labels, masks, torch.ones(count, dtype=torch.bool)))


def large_config() -> BackboneConfig:
    return catalog()[LARGE].config


def large_clip() -> Clip:
    torch.manual_seed(0)
    return Clip(large_config()).requires_grad_(False).eval()


def write_large(folder: Path) -> None:
    """A backbone of random weights as the store keeps one, in float32, which is mapped and not read."""
    folder.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in large_clip().state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(to_dict(large_config())), encoding="utf-8")


def _trainer(method: str, clip: Clip, source: Source | None, out: Path, *, precision: str = "fp32") -> Trainer:
    torch.manual_seed(0)
    built = build(method, clip).train()
    clip.eval()
    empty = Source(examine(made_up(2), size=8), clip.config.preprocess)
    return Trainer(
        built,
        source or empty,
        vocabulary=general(),
        recipe=Recipe(precision="bf16" if precision == "bf16" else "fp32"),
        device=torch.device("cpu"),
        settings=TrainingSettings(out=out),
        card={},
    )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    runs = {
        "epoch": epoch,
        "memory": memory,
        "memory-child": memory_child,
        "cache-dtype": cache_dtype,
        "precision": precision,
    }
    parser.add_argument("what", choices=runs)
    parser.add_argument("--images", type=int, default=128, help="rendered images")
    parser.add_argument("--tower-images", type=int, default=1, help="images a round through the large tower")
    parser.add_argument("--cached-images", type=int, default=2000, help="images in the large cache")
    parser.add_argument("--steps", type=int, default=0, help="stop the large epoch after so many steps; 0 takes all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--folder", help="where the large cache goes; default: the system's temporary folder")
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    print(machine())
    runs[arguments.what](arguments)


if __name__ == "__main__":
    main()
