"""Puts this folder on the import path, for what tests share (fakes.py)."""
