"""Data sets: those that people measure on, and the user's own. Nothing is downloaded."""

from blemish.data.entries import Entry, entry, is_known, known_sets
from blemish.data.files import FileSample, TypeMask, type_mask
from blemish.data.opening import open_data
from blemish.data.samples import DataSet, Level, Sample, Split

__all__ = [
    "DataSet",
    "Entry",
    "FileSample",
    "Level",
    "Sample",
    "Split",
    "TypeMask",
    "entry",
    "is_known",
    "known_sets",
    "open_data",
    "type_mask",
]
