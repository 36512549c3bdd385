"""A run: the folder of its results, written, read, resumed and decided again."""
