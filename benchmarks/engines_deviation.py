"""How far each engine's scores and maps lie from torch's in float32, on held-out rendered pictures: the median and the largest.

`python -m benchmarks.engines_deviation --photos 60`: beside the bound that Blemish itself measures, on the few pictures that it
looks at when an engine is first loaded, what it is on many others: of the image score, of the map, and of all that is of a type.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.backbones.preprocess import to_array
from blemish.engines.base import RawScores
from blemish.engines.comparing import compared, probe_images
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


def errors(original: Method, other: Method, count: int) -> NDArray[np.float64]:
    """How far the first `count` held-out pictures move: [count, 3], the image score, the map, and anything of the types."""
    preprocess, pictures = original.backbone.config.preprocess, rendered_pictures(count)
    found: list[list[float]] = []
    with torch.inference_mode():
        texts = original.encode_texts(general())
        while batch := list(islice(pictures, AT_ONCE)):
            arrays = [to_array(Picture(sample.image, source="rendered"), preprocess) for sample in batch]
            images = torch.from_numpy(np.stack(arrays))
            one, two = (rows_of(method.score(method.encode(images), texts), (1, 1)) for method in (original, other))
            for a, b in zip(one, two, strict=True):
                score, of_map = abs(a.image_score - b.image_score), float(np.abs(a.anomaly_map - b.anomaly_map).max())
                types = max(float(np.abs(a.type_scores - b.type_scores).max()), _of_types(a, b))
                found.append([score, of_map, types])
    return np.array(found)


def _of_types(one: RawScores, other: RawScores) -> float:
    if one.type_maps is None or other.type_maps is None:
        return 0.0
    return float(np.abs(one.type_maps - other.type_maps).max())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines_deviation", description=__doc__)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--inputs", type=int, nargs="+", default=[320, 224])
    parser.add_argument("--only", nargs="+", metavar="ENGINE")
    arguments = parser.parse_args()
    heads = "engine | input | bound that Blemish keeps | image score: median, 95 %, largest | map | types"
    print(f"| {heads} |\n|{'---|' * 6}")
    for side in arguments.inputs:
        method = load_method("embedded", input_px=side).method.eval()
        for name, make in variants().items():
            if arguments.only and name not in arguments.only:
                continue
            other = make(method)
            kept = compared(method, other, torch.from_numpy(probe_images(method))).deviation
            moved = errors(method, other, arguments.photos)
            cells = [f"{kept:.0e}"]
            cells += [f"{np.median(each):.1e}, {np.quantile(each, 0.95):.1e}, {each.max():.1e}" for each in moved.T]
            print(f"| {name} | {side} px | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
