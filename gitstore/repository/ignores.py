"""Which untracked files of a checkout are nobody's business: what git ignores there, and what editors leave behind.

Patterns: gitignore(5), read from `.git/info/exclude` and the `.gitignore` files of the work tree. Only untracked files
are ever ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

from dulwich.ignore import IgnoreFilter

LARGEST = 1 << 20  # bytes of an ignore file; a larger one says nothing
_MOST = 1000  # patterns of one file that count
_LONGEST = 1024  # bytes of a pattern that counts
_STARS = re.compile(rb"\*+")
_STARS_MAX = 3
_TEMPORARY = re.compile(
    r"""
      .*~                             # backups: vim, emacs, gedit, nano
    | \..*\.sw[a-p] | \.sw[a-p]       # vim's swap files
    | \.\#.* | \#.*\#                 # emacs: lock, auto-save
    | \.goutputstream-.* | \.fuse_hidden.* | \.nfs[0-9a-f]+
    | .*___jb_(?:tmp|old|bak)___      # JetBrains' safe write
    | \..*\.kate-swp | .*\.(?:bak|tmp|temp|swp|crdownload|part)
    | \.~lock\..*\# | ~\$.*           # LibreOffice, Microsoft Office
    | \.DS_Store | \._.* | Thumbs\.db | desktop\.ini
    | 4913                            # vim's probe whether it may write here
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def temporary(name: str) -> bool:
    """Whether a file of this name is an editor's or desktop's: a swap file, a backup, a temporary file."""
    return _TEMPORARY.fullmatch(name) is not None


class Ignores:
    """The patterns in force in one folder: those of the repository, of the folders above, and its own."""

    def __init__(self, filters: tuple[tuple[str, IgnoreFilter], ...] = ()) -> None:
        self._filters = filters

    def below(self, folder: str, data: bytes | None) -> Ignores:
        """The patterns in force in `folder` (a path in the work tree, "" for the top) with those of a file added."""
        if data is None:
            return self
        return Ignores((*self._filters, (f"{folder}/" if folder else "", _filter(data))))

    def match(self, path: str, *, folder: bool) -> bool:
        """Whether git ignores a path that it does not track; the nearest file with an opinion decides."""
        for prefix, rules in reversed(self._filters):
            inside = path.removeprefix(prefix) + ("/" if folder else "")
            # A name that is not UTF-8 is held against the patterns as it is shown: dulwich reads only UTF-8.
            text = inside.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            verdict = rules.is_ignored(text.encode("utf-8", "replace"))
            if verdict is not None:
                return verdict
        return False


@lru_cache(maxsize=128)
def _filter(data: bytes) -> IgnoreFilter:
    return IgnoreFilter(islice(_patterns(data), _MOST))


def _patterns(data: bytes) -> Iterable[bytes]:
    for line in data.split(b"\n"):
        text = line.rstrip(b"\r")
        # A pattern becomes a regular expression: one with many stars could be made to run for minutes.
        if text.strip() and not text.startswith(b"#") and _bounded(text):
            yield _stripped(text)


def _bounded(text: bytes) -> bool:
    return len(text) <= _LONGEST and len(_STARS.findall(text)) <= _STARS_MAX and not re.search(rb"\*{3}", text)


def _stripped(text: bytes) -> bytes:
    """Trailing blanks do not count unless they are escaped (gitignore(5))."""
    while text.endswith(b" ") and not text.endswith(b"\\ "):
        text = text[:-1]
    return text
