"""After a crash: the journal's records are published again, and what the crash left half-done is healed.

After the end of a process everything written is there. After a restart of the machine anything written since the last
checkpoint may be missing, empty or torn, in any combination: then nothing the records cover is trusted, and what cannot
be read is put aside, not deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from gitstore.errors import Damaged
from gitstore.repository import bases, refs
from gitstore.repository.disk import Disk
from gitstore.repository.journal import Record
from gitstore.repository.objects import BLOB, Oid
from gitstore.repository.packs import checksum_holds
from gitstore.repository.quarantine import sweep
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Difference, compare
from gitstore.repository.worktree import regular


def booted() -> float:
    """When the machine was started, seconds since 1970; 0 where the system does not say (proc(5), btime)."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return next((float(line.split()[1]) for line in file if line.startswith("btime ")), 0.0)
    except OSError:
        return 0.0


def heal(disk: Disk, repository: Repository, since: float) -> list[str]:
    """Removes lock files that nobody can hold any more; which. `since`: when the machine was started.

    Pushes that were cut short go with them.
    """
    sweep(repository.git)
    return refs.clear_locks(disk, repository.git, repository.database.scratch, since)


def replay(disk: Disk, repository: Repository, records: Sequence[Record], *, restarted: bool) -> None:
    """Publishes the records of one workspace (oldest first) again. Doing it twice is doing it once.

    Raises Foreign where a person's git has moved a branch as well: the records are published, the refs are not yet
    moved, and the caller takes the person's move in.
    """
    creates = any(move.old is None for record in records for move in record.moves)
    if creates and (restarted or not os.path.exists(f"{repository.git}/HEAD")):
        Repository.create(disk, repository.root, records[0].workspace)
    if restarted:
        _distrust(disk, repository, records)
    repository.database.write_entries(
        ((Oid(oid), Oid(base) if base else None, entry) for record in records for oid, base, entry in record.entries),
        force=restarted,
    )
    repository.bases = bases.read(repository.database.scratch)
    heads: dict[str, Oid] = {}
    begin: dict[str, Oid | None] = {}
    for branch in refs.HEADS:
        moves = [move for record in records for move in record.moves if move.branch == branch]
        kept = refs.read(repository.git, refs.KEPT[branch])
        head = refs.read(repository.git, refs.HEADS[branch])
        known = {kept, None, *(move.old for move in moves), *(move.new for move in moves)}
        repository.kept[branch] = kept
        repository.shown[branch] = head if head in known else kept
        if moves:
            begin[branch] = Oid(moves[0].old) if moves[0].old else None
            if kept is None or kept in {move.old for move in moves} | {move.new for move in moves}:
                heads[branch] = Oid(moves[-1].new)
        if branch == "main" and head not in known and (held := refs.read(repository.git, refs.SHOWN)) is not None:
            repository.shown["main"] = held
    foreign = repository.foreign()
    if foreign is not None:
        # What was promised is kept whatever a person did meanwhile; the caller joins the two.
        repository.move(heads, show=False, foreign=foreign)
        raise foreign
    show = "main" in heads and not repository.busy()
    if show and repository.on_main():
        ids = (Oid(oid) for record in records for oid, _, _ in record.entries)
        ours = {oid for oid in ids if repository.database.get(oid)[0] == BLOB}
        ours.update(Oid(blob) for record in records for _, blob in record.taken if blob is not None)
        also: set[str] = set()
        for record in records:
            for move in record.moves:
                if move.branch == "main":
                    for found in _between(repository, move.old, move.new):
                        also.add(found.path)
                        ours.update(node.id for node in (found.old, found.new) if node is not None and regular(node))
        fresh = _unpublished(records, repository.kept["main"])
        taken = {} if restarted else {path: _oid(blob) for record in fresh for path, blob in record.taken}
        keep = {path: _oid(base) for record in fresh for path, base in record.kept}
        repository.check_out(
            begin["main"], heads["main"], ours, torn=restarted, also=also, keep=keep, taken=taken,
            seen=repository.shown["main"],
        )  # fmt: skip
    repository.move(heads, show=show)


def _unpublished(records: Sequence[Record], kept: Oid | None) -> Sequence[Record]:
    """The records after the one whose head of `main` is where the branch was left."""
    for at in range(len(records) - 1, -1, -1):
        if any(move.branch == "main" and move.new == kept for move in records[at].moves):
            return records[at + 1 :]
    return records


def _oid(blob: bytes | None) -> Oid | None:
    return Oid(blob) if blob is not None else None


def _between(repository: Repository, old: bytes | None, new: bytes) -> Iterator[Difference]:
    before, after = repository.tree(Oid(old) if old else None), repository.tree(Oid(new))
    return compare(repository.database, before.root, after.root)


def _distrust(disk: Disk, repository: Repository, records: Sequence[Record]) -> None:
    for ref in (*refs.KEPT.values(), *refs.HEADS.values(), refs.SHOWN):
        try:
            refs.read(repository.git, ref)
        except Damaged:
            _put_aside(disk, repository, f"{repository.git}/{ref}")
    for record in records:
        for oid, _, _ in record.entries:
            path = f"{repository.database.objects}/{oid.hex()[:2]}/{oid.hex()[2:]}"
            if os.path.exists(path):
                disk.unlink(path)  # the record has the same object
    for stem in _stems(f"{repository.database.objects}/pack"):
        if not checksum_holds(stem):
            for suffix in (".idx", ".pack"):
                if os.path.exists(stem + suffix):
                    _put_aside(disk, repository, stem + suffix)
    repository.database.close()


def _put_aside(disk: Disk, repository: Repository, path: str) -> None:
    disk.rename(path, f"{repository.database.scratch}/torn-{os.path.basename(path)}")


def _stems(folder: str) -> Iterable[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted({f"{folder}/{name.rsplit('.', 1)[0]}" for name in names if name.endswith((".idx", ".pack"))})
