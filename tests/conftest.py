"""Puts this folder on the import path, for what tests share (fakes.py), and sets up hypothesis."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says nothing about right or wrong, least of all on a shared machine. The same examples every time:
# what lands is decided by the change, not by chance. `pytest --hypothesis-profile explore` looks for new ones.
settings.register_profile("blemish", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("blemish")
