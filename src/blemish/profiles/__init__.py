"""What is known of one product, in one file: a memory of good images, thresholds, words, masks, what good images look like."""

from __future__ import annotations

from blemish.profiles.file import GoodImage, ProductProfile, read_profile, write_profile

__all__ = ["GoodImage", "ProductProfile", "read_profile", "write_profile"]
