"""YAML documents that hold JSON values: read strictly, written so that every YAML reader agrees, edited line by line.

`load(dump(value))` gives back the value with the same types and the same order of keys; `edit` changes only the
lines of a person's file that must change. Nothing else in the project reads or writes YAML.
"""

from gitstore.documents.editing import MISSING, edit
from gitstore.documents.reading import MAX_BYTES, MAX_DEPTH, MAX_NODES, DocumentError, load
from gitstore.documents.writing import dump

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "MISSING", "DocumentError", "dump", "edit", "load"]
