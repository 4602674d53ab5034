"""Merging by meaning: what two sides changed since a common state, put together; only a true conflict is a clash."""

from gitstore.merging.clash import Clash, Side
from gitstore.merging.files import FileMerge, merge_file
from gitstore.merging.markers import merge_marked
from gitstore.merging.trees import Layer, Merged, merge, merge_trees

__all__ = ["Clash", "FileMerge", "Layer", "Merged", "Side", "merge", "merge_file", "merge_marked", "merge_trees"]
