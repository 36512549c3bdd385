"""The recipe of the embedded backbone: `python -m recipes.embedded` (see __main__.py for the steps)."""
