"""Puts this folder on the import path, for what tests share (fakes.py), and sets up hypothesis."""

from __future__ import annotations

from hypothesis import settings

# how long an example takes says nothing about right or wrong, least of all on a shared machine
settings.register_profile("blemish", deadline=None)
settings.load_profile("blemish")
