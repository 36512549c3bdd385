"""Makes a backbone of sides that a long training left: `python -m recipes.long.assemble --run FOLDER --sides 0 1 ...`.

Words, and a trunk that did not learn, are those of the weights that it began with. One side alone shows what that side learned:
it is judged by the sources that it never saw. Several stand side by side in what ships. `--share` below 1 gives the mean of what
was learned and of what it began with, which forgets less (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from blemish.backbones.model import Clip
from blemish.backbones.weights import load_backbone, save_backbone
from blemish.errors import UsageError
from recipes.embedded.config import abreast
from recipes.long.towers import TRUNKS

SUMMARY = "summary.json"
TRUNK = "members.0.stem.trunk."


def mixed(before: Clip, learned: dict[str, Tensor], starts: Sequence[int], share: float) -> dict[str, Tensor]:
    """The mean of what was learned, with this share, and of what each side began as; `starts`: the side of `before` of each."""
    old = before.image.state_dict()

    def begun(name: str) -> Tensor:
        members, number, rest = name.split(".", 2)
        return old[name if name.startswith(TRUNK) else f"{members}.{starts[int(number)]}.{rest}"]

    return {name: torch.lerp(begun(name), value.float(), share) for name, value in learned.items()}


def assembled(before: Clip, learned: dict[str, Tensor], sides: Sequence[int]) -> Clip:
    """The backbone of these sides of what was learned, with the words of `before`."""
    old = {name.removeprefix("image."): value for name, value in before.state_dict().items() if ".trunk." in name}
    trunk = {name: value for name, value in learned.items() if name.startswith(TRUNK)} or old
    clip = Clip(abreast(len(sides)))
    state = {name: value for name, value in before.state_dict().items() if not name.startswith("image.")}
    for place, side in enumerate(sides):
        prefix = f"members.{side}."
        own = {name.removeprefix(prefix): value for name, value in learned.items() if name.startswith(prefix)}
        if not own:
            raise UsageError(f"the training has no side {side}")
        prefix = "image." if len(sides) == 1 else f"image.members.{place}."
        state |= {f"{prefix}{name}": value.float() for name, value in own.items() if not name.startswith("stem.trunk.")}
    prefix = "image.stem.trunk." if len(sides) == 1 else f"image.{TRUNK}"
    state |= {f"{prefix}{name.removeprefix(TRUNK)}": value.float() for name, value in trunk.items()}
    clip.load_state_dict(state)
    return clip.eval()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.long.assemble", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="what recipes.long wrote")
    parser.add_argument("--before", type=Path, required=True, help="folder of the weights that it began with")
    parser.add_argument("--trunk", choices=TRUNKS, default="frozen")
    parser.add_argument("--part", type=int, default=100, help="per cent of the way (50, 75, 90); 0: what it began with")
    parser.add_argument("--share", type=float, default=1.0, help="of what was learned; the rest is what it began with")
    parser.add_argument("--sides", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with torch.inference_mode():
        before = load_backbone(arguments.before)
        if arguments.part:
            learned = load_file(arguments.run / f"{arguments.trunk}-{arguments.part:03d}.safetensors")
            groups = json.loads((arguments.run / SUMMARY).read_text(encoding="utf-8"))["groups"]
            starts = [side["start"] for side in groups[arguments.trunk]]
            learned = mixed(before, learned, starts, arguments.share)
        else:
            learned = before.image.state_dict()
        clip = assembled(before, learned, arguments.sides)
        save_backbone(clip, arguments.out, dtype=torch.float16)
    print(arguments.out)


if __name__ == "__main__":
    main()
