"""The image side of several models on a GPU beside this processor: wall time an image, memory of the GPU, error of the map.

`python -m benchmarks.engines_gpu`: torch in float32 and in half precision, on request compiled, batches of 1, 8 and 32,
medians; images come from NumPy, as an inspection has them, and the clock stops when the features are there. Random weights stand
in for ViT-B and ViT-L. The error is the largest difference of a map from that of float32 on the processor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks.engines import CASES, loaded_method
from blemish.engines.torch import TorchEngine, in_half
from blemish.language import parse_defects

BATCHES, ROUNDS = (1, 8, 32), 7
VARIANTS = {"float32": (False, False), "half": (True, False)}
COMPILED = {"half, compiled": (True, True)}


def measured(engine: TorchEngine, images: Any) -> tuple[float, float]:
    """Milliseconds an image (median of some rounds, after two that do not count), and the highest memory of the GPU in MB."""
    taken = []
    for _ in range(2 + ROUNDS):
        started = time.perf_counter()
        engine.encode(images)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - started) / len(images))
    memory = torch.cuda.max_memory_allocated() / 2**20 if engine.device.type == "cuda" else 0.0
    return statistics.median(taken[2:]), memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines_gpu", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--compiled", nargs="*", choices=CASES, default=[], metavar="CASE", help="also compiled")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--limit-s", type=float, default=240, help="no new case is begun after so many seconds")
    arguments = parser.parse_args()
    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "no GPU"
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads of the processor")
    print("| model | precision | batch | ms an image | images/s | memory of the GPU, MB | map error |\n|" + "---|" * 7)
    began = time.perf_counter()
    for case in arguments.cases:
        if time.perf_counter() - began > arguments.limit_s:
            print(f"{case} and what follows: no time left")
            break
        method, images = loaded_method(case)
        batch = images.numpy()
        texts = parse_defects("scratch, hole")
        plain = TorchEngine(method, backbone="embedded")
        expected = plain.score(plain.encode(batch[:2]), plain.encode_texts(texts))
        spent, _ = measured(plain, batch[:1]) if case.startswith("embedded") else (float("nan"), 0.0)
        print(f"| {case} | float32, processor | 1 | {spent:.1f} | {1e3 / spent:.1f} | | 0 |", flush=True)
        variants = VARIANTS | (COMPILED if case in arguments.compiled else {})
        for variant, (half, compiled) in variants.items():
            other = in_half(method, torch.float16) if half else method
            engine = TorchEngine(other, backbone="embedded", device=arguments.device, compiled=compiled)
            found = engine.score(engine.encode(batch[:2]), engine.encode_texts(texts))
            error = max(
                float(abs(one.anomaly_map - two.anomaly_map).max()) for one, two in zip(expected, found, strict=True)
            )
            for count in BATCHES[compiled:]:  # each size is compiled anew
                if engine.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                spent, memory = measured(engine, batch[[number % len(batch) for number in range(count)]])
                cells = f"{case} | {variant} | {count} | {spent:.2f} | {1e3 / spent:.0f} | {memory:.0f} | {error:.0e}"
                print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    main()
