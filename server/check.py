"""`gitstore check FOLDER`: what an import or a push would say of a folder, one line a fault."""

from __future__ import annotations

from pathlib import Path

import click

from gitstore import names
from gitstore.checking import check_folder
from server.terminal import FAILED, Place


@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def check(place: Place, folder: Path) -> None:
    """Check a folder or clone before it is imported or pushed; needs no store.

    Every fault is a line `path:line:column: message. hint` on standard output, in the words of an import or a push. In
    a git repository the files count that would be committed, as they are on disk.
    """
    done = check_folder(folder, policy=place.settings.secret_policy)
    lines = [names.one_line(str(fault), 4000) for fault in done.faults]  # a file's name may hold anything
    place.answer(done, "\n".join(lines) or f"{folder} is sound")
    if not done.sound:
        place.note("1 problem" if len(lines) == 1 else f"{len(lines)} problems")
        raise SystemExit(FAILED)
