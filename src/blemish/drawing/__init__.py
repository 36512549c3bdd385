"""Colours and overlays: what is drawn over an inspected image."""
