"""What differs between two states: by key for YAML, by line for text, by size and digest for everything else.

However large or hostile the contents are, the work has a bound; what it does not reach is told as `truncated`.
"""

from gitstore.diff.compared import Compared
from gitstore.diff.files import LIMITS, Content, FileDiff, FileName, Limits, compare, describe, moved
from gitstore.diff.hunks import Hunk
from gitstore.diff.patch import MEDIA_TYPE, patches, unified
from gitstore.diff.structure import ValueDiff, differences

__all__ = [
    "LIMITS",
    "MEDIA_TYPE",
    "Compared",
    "Content",
    "FileDiff",
    "FileName",
    "Hunk",
    "Limits",
    "ValueDiff",
    "compare",
    "describe",
    "differences",
    "moved",
    "patches",
    "unified",
]
