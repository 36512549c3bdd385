"""The recipe of the embedded backbone: `python -m training.embedded` (see __main__.py for the steps)."""
