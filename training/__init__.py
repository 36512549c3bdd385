"""Recipes that make what ships in the wheel. Not part of the installed package."""

from __future__ import annotations

import argparse

import torch

AT_HAND = "cuda" if torch.cuda.is_available() else "cpu"


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=AT_HAND, help=f"that trains: cpu, cuda, cuda:1; here by default {AT_HAND}")
