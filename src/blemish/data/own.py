"""How a user's own data may lie, from the most to the least telling."""

from __future__ import annotations

from blemish.data.entries import Entry

__all__ = ["OWN_LAYOUTS"]

OWN_LAYOUTS = (
    Entry(
        "own-mvtec",
        "the layout of MVTec AD (test/<folder>, ground_truth/<folder>)",
        "mvtec",
        "image+pixel",
        normal=("good", "ok", "normal"),
    ),
    Entry("own-folders", "a folder of normal images beside folders of defects (good/, bad/)", "folders", "image+pixel"),
)
