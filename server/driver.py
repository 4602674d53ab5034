"""The merge driver for clones: git runs it for a file that both sides of a merge changed.

Git's side of the agreement: gitattributes(5), "Defining a custom merge driver". It gives three temporary files and the
path, takes the result from the second of them, and reads the exit code: 0 merged, 1 to 128 a conflict, above a failure.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gitstore.merging import merge_marked

CONFLICT, FAILURE = 1, 129
_CODES = """\b
Exit codes:
  0    merged
  1    a conflict: OURS has the lines of both sides between markers
  129  failed: a file cannot be read or written"""

_FILE = click.Path(path_type=Path)


@click.command("merge-driver", epilog=_CODES)
@click.argument("base", type=_FILE)
@click.argument("ours", type=_FILE)
@click.argument("theirs", type=_FILE)
@click.argument("path")
def merge_driver(base: Path, ours: Path, theirs: Path, path: str) -> None:
    """Merge YAML by its keys and items, as a merge driver for git.

    Takes the changes that THEIRS made since BASE into the file OURS; PATH is the name it has in the repository. Set it
    up in a clone with: git config merge.gitstore.driver 'gitstore merge-driver %O %A %B %P'
    """
    try:
        # Where both sides added the file, git gives an empty one as the base.
        merged = merge_marked(path, base.read_bytes() or None, ours.read_bytes(), theirs.read_bytes())
        ours.write_bytes(merged.data or b"")
    except OSError as error:
        click.echo(f"gitstore: {path} cannot be merged: {error.filename}: {error.strerror or error}", err=True)
        sys.exit(FAILURE)
    for clash in merged.clashes:
        click.echo(f"gitstore: {clash.text('ours', 'theirs')}", err=True)
    if merged.clashes:
        sys.exit(CONFLICT)
