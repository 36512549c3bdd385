"""Averages the weights of backbones that were trained further from one: `python -m recipes.real.average --parts A:1 B:1 ...`.

The mean of the weights before and after a fine-tuning keeps what the first knew and most of what the second learned (Wortsman
et al., Robust fine-tuning of zero-shot models, CVPR 2022); fine-tunings on different sources go into one mean (Wortsman et al.,
Model soups, ICML 2022). It works only where all began as the same weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from blemish import models
from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone, save_backbone
from blemish.errors import UsageError

Part = tuple[Clip, float]  # a backbone and its share


def averaged(parts: Sequence[Part]) -> Clip:
    """The first backbone with the mean weights of all; shares count in proportion to their sum."""
    total = sum(share for _, share in parts)
    if not parts or not total > 0:
        raise UsageError("an average takes backbones with shares above 0")
    shape = parts[0][0].config
    if any(clip.config != shape for clip, _ in parts):
        raise UsageError("only backbones of the same configuration can be averaged")
    states = [(clip.state_dict(), share / total) for clip, share in parts]
    mean = {
        name: sum(share * state[name].float() for state, share in states).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0][0].items()
    }
    whole = Clip(shape)
    whole.load_state_dict(mean)
    return whole.eval()


def part(text: str) -> Part:
    """A backbone by its name or folder and its share, as `embedded:1`."""
    name, _, share = text.rpartition(":")
    try:
        weight = float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME:SHARE") from None
    folder = Path(name)
    return (load_backbone(folder) if folder.is_dir() else models.load_backbone(name)), weight


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.real.average", description=__doc__)
    parser.add_argument("--parts", nargs="+", required=True, metavar="NAME:SHARE", help="a model's name or a folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the backbone")
    arguments = parser.parse_args()
    with torch.inference_mode():
        save_backbone(averaged([part(text) for text in arguments.parts]), arguments.out, dtype=torch.float16)
    print(arguments.out)


if __name__ == "__main__":
    main()
