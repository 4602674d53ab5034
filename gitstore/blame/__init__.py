"""Who last set each part of a file: leaves of a YAML document, lines of any other text, worked out on demand.

The versions are given newest first and read one by one, until every part is accounted for.
"""

from gitstore.blame.leaves import Leaf, blame_leaves
from gitstore.blame.lines import Line, blame_lines
from gitstore.blame.versions import VERSIONS_MAX, Version

__all__ = ["VERSIONS_MAX", "Leaf", "Line", "Version", "blame_leaves", "blame_lines"]
