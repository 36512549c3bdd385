"""How far each engine's scores and maps lie from torch's in float32, on held-out rendered pictures: the median and the largest.

`python -m benchmarks.engines_deviation --photos 60`: beside the bound that Blemish itself measures, on the few pictures that it
looks at when an engine is first loaded, what it is on many others. The error of a picture is the largest difference of its score,
its map, its type scores or its type maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.backbones.preprocess import to_array
from blemish.engines.comparing import compared, deviation_between, probe_images
from blemish.engines.graphs import ImageSide
from blemish.engines.held_out import rendered_pictures
from blemish.engines.sessions import installed_libraries
from blemish.engines.torch import in_half, rows_of
from blemish.images import Picture
from blemish.language import general
from blemish.methods.base import Method
from blemish.models.load import load_method

AT_ONCE = 4


def variants() -> dict[str, Callable[[Method], Method]]:
    """What is compared with torch in float32."""
    made: dict[str, Callable[[Method], Method]] = {"torch half": lambda method: in_half(method, torch.bfloat16)}
    for name in installed_libraries():
        made[name] = lambda method, name=name: ImageSide(method, name).method  # type: ignore[misc]
    if "openvino" in made:
        made["openvino half"] = lambda method: ImageSide(method, "openvino", precision="half").method
    return made


def errors(original: Method, other: Method, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each of the first `count` held-out pictures the largest difference of anything, and that of the image score [count]."""
    preprocess, pictures = original.backbone.config.preprocess, rendered_pictures(count)
    largest, scores = [], []
    with torch.inference_mode():
        texts = original.encode_texts(general())
        while batch := list(islice(pictures, AT_ONCE)):
            arrays = [to_array(Picture(sample.image, source="rendered"), preprocess) for sample in batch]
            images = torch.from_numpy(np.stack(arrays))
            one, two = (rows_of(method.score(method.encode(images), texts), (1, 1)) for method in (original, other))
            largest += [deviation_between([a], [b]) for a, b in zip(one, two, strict=True)]
            scores += [abs(a.image_score - b.image_score) for a, b in zip(one, two, strict=True)]
    return np.array(largest), np.array(scores)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines_deviation", description=__doc__)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--inputs", type=int, nargs="+", default=[320, 224])
    parser.add_argument("--only", nargs="+", metavar="ENGINE")
    arguments = parser.parse_args()
    heads = "engine | input | bound that Blemish keeps | median | 95 % | largest | largest of an image score"
    print(f"| {heads} |\n|{'---|' * 7}")
    for side in arguments.inputs:
        method = load_method("embedded", input_px=side).method.eval()
        for name, make in variants().items():
            if arguments.only and name not in arguments.only:
                continue
            other = make(method)
            kept = compared(method, other, torch.from_numpy(probe_images(method))).deviation
            all_, image = errors(method, other, arguments.photos)
            numbers = (kept, np.median(all_), np.quantile(all_, 0.95), all_.max(), image.max())
            print(f"| {name} | {side} px | {' | '.join(f'{number:.1e}' for number in numbers)} |", flush=True)


if __name__ == "__main__":
    main()
