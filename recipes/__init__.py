"""Recipes that make what ships in the wheel. Not part of the installed package."""

from __future__ import annotations

import argparse

import torch

from blemish.engines.torch import device_of
from blemish.errors import UsageError

AT_HAND = "cuda" if torch.cuda.is_available() else "cpu"


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device NAME, a torch.device; one line where it cannot be used."""
    parser.add_argument(
        "--device", type=_device, default=AT_HAND, help=f"that trains: cpu, cuda, cuda:1; here by default {AT_HAND}"
    )


def _device(name: str) -> torch.device:
    try:
        return device_of(name)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
