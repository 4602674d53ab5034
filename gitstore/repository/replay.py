"""After a crash: the journal's records are published again, and what the crash left half-done is healed.

After the end of a process everything written is there. After a restart of the machine anything written since the last
checkpoint may be missing, empty or torn, in any combination: then nothing the records cover is trusted, and what cannot
be read is put aside, not deleted.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from gitstore.errors import Damaged
from gitstore.repository import bases, journal, refs, tags
from gitstore.repository.disk import Disk
from gitstore.repository.index import IndexForeign, IndexLocked
from gitstore.repository.journal import Record
from gitstore.repository.likeness import ALIKE, likest
from gitstore.repository.objects import BLOB, Oid, identify
from gitstore.repository.packs import checksum_holds
from gitstore.repository.processes import booted as booted
from gitstore.repository.quarantine import sweep
from gitstore.repository.repository import Foreign, Repository
from gitstore.repository.trees import Difference, compare, encode_path
from gitstore.repository.worktree import regular


def heal(disk: Disk, repository: Repository, since: float) -> list[str]:
    """Removes lock files that nobody can hold any more; which. `since`: when the machine was started.

    Pushes that were cut short go with them, and the tags of snapshots are put back.
    """
    sweep(repository.git)
    gone = refs.clear_locks(disk, repository.git, repository.database.scratch, since)
    tags.restore(disk, repository)
    return gone


def replay(disk: Disk, repository: Repository, records: Sequence[Record], *, restarted: bool) -> None:
    """Publishes the records of one workspace (oldest first) again. Doing it twice is doing it once.

    Raises Foreign where a person's git has moved a branch as well: the records are published, the refs are not yet
    moved, and the caller takes the person's move in. Raises RefLocked where a git is at work on our own refs.
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
        left = kept if (held := refs.read(repository.git, refs.SHOWN[branch])) is None else held
        if head in known:
            left = head
        elif restarted and head is not None:
            left = _nearest(repository, head, known) or left
        repository.shown[branch] = left
        if moves:
            begin[branch] = Oid(moves[0].old) if moves[0].old else None
            if kept is None or kept in {move.old for move in moves} | {move.new for move in moves}:
                heads[branch] = Oid(moves[-1].new)
    keep, taken = journal.gathered((journal.told(record.kept), journal.told(record.taken)) for record in records)
    new = taken if restarted else _unpublished(repository, records, taken)
    show = "main" in heads and not repository.busy()
    foreign = repository.foreign()
    also: set[str] = set()
    removed: set[str] = set()
    ours: set[Oid] = set()
    first = 0 if restarted else _published(repository, records)
    if foreign is not None or show:
        ids = (Oid(oid) for record in records for oid, _, _ in record.entries)
        ours.update(oid for oid in ids if repository.database.get(oid)[0] == BLOB)
        ours.update(blob for blob in taken.values() if blob is not None)
        for number, record in enumerate(records):
            for move in record.moves:
                if move.branch == "main":
                    for found in _between(repository, move.old, move.new):
                        also.add(found.path)
                        if found.new is None and number >= first:
                            removed.add(found.path)
                        ours.update(node.id for node in (found.old, found.new) if node is not None and regular(node))
        # A file that was replaced since it was taken, and edited again, did not begin from what was taken.
        began = _began(repository, records, also - keep.keys(), ours, new, restarted)
        new = {path: blob for path, blob in new.items() if path not in began}
        repository.note({}, began)
    if foreign is None:
        try:
            if show and repository.on_main():
                # After the end of a process what was shown is there; else nothing since the first record is sure to be.
                old = begin["main"] if restarted else repository.shown["main"]
                gone = None if restarted else removed
                repository.check_out(
                    old, heads["main"], ours, torn=restarted, also=also, removed=gone, keep=keep, taken=new
                )
            repository.move(heads, show=show)
            return
        except Foreign as moved:
            foreign = moved  # a moment ago
        except (IndexForeign, IndexLocked, refs.RefLocked):
            pass  # somebody's git is at work: the rest is published once the workspace is in memory
    # What was promised is kept whatever a person did meanwhile; the caller joins the two. What the crash may have
    # left checked out of it is no edit of a person's.
    if restarted and repository.on_main():
        repository.mend(also - keep.keys(), ours)
    written = repository.written(also - keep.keys(), ours, removed)
    # Where something of ours is now that came after what was taken there, no edit began from that.
    repository.note(keep, written | {path: blob for path, blob in new.items() if written.get(path) is None})
    if foreign is not None:
        repository.note_taken(taken)
    repository.move(heads, show=False, foreign=foreign)
    if foreign is not None:
        raise foreign


def _began(
    repository: Repository,
    records: Sequence[Record],
    paths: Iterable[str],
    ours: Collection[Oid],
    taken: journal.Files,
    restarted: bool,
) -> dict[str, Oid | None]:
    """What the edits in files began from where nothing on the disk says so: of all that the store wrote there in the
    time of the records, or since it took what was there, what the file is likest to. Where that is not clear: what was
    taken or shown, or, where no ref can be relied on, the oldest, for a conflict that is none costs less than an
    overwritten value.
    """
    moves = [(number, move) for number, record in enumerate(records) for move in record.moves if move.branch == "main"]
    commits = [(-1, Oid(move.old)) for _, move in moves[:1] if move.old is not None]
    commits += [(number, Oid(move.new)) for number, move in moves]
    if not restarted:
        commits = [(-1, oid) for oid in (repository.shown["main"],) if oid is not None] + commits[::-1]
    trees = [(number, repository.tree(oid)) for number, oid in commits]
    took = {} if restarted else {path: number for number, record in enumerate(records) for path, _ in record.taken}
    found: dict[str, Oid | None] = {}
    for path in paths:
        known = path in repository.bases and path not in taken
        data = None if known else repository.work_file(path)
        if data is None or identify(BLOB, data) in ours:
            continue
        since = took.get(encode_path(path), -1) if path in taken else -1
        nodes = [tree.node(path) for number, tree in trees if number >= since]
        blobs = [node.id for node in nodes if node is not None and regular(node)]
        if (own := taken.get(path)) is not None:
            blobs.insert(0, own)
        if blobs:
            found[path], alike = likest(repository.database, data, blobs)
            if alike < ALIKE and not restarted and nodes[0] is None and own is None:
                found[path] = None  # made anew
    return found


def _nearest(repository: Repository, head: Oid, known: Collection[bytes | None]) -> Oid | None:
    """Where a person's line leaves what is known: after a power cut a ref may have come to the disk before another."""
    here: Oid | None = head
    while here is not None and here not in known:
        try:
            commit = repository.commit(here)
        except Damaged:
            return None
        here = commit.parents[0] if commit.parents else None
    return here


def _published(repository: Repository, records: Sequence[Record]) -> int:
    """How many of the records are published, as far as the refs say: `main` moves before the ref that says so."""
    done = 0
    heads = {repository.kept["main"], repository.shown["main"]}
    for number, record in enumerate(records):
        if any(move.branch == "main" and move.new in heads for move in record.moves):
            done = number + 1
    return done


def _unpublished(repository: Repository, records: Sequence[Record], taken: journal.Files) -> journal.Files:
    """Of the files that were taken, those after whose taking nothing was published: of the others the bases tell more,
    for an edit may have begun in one since.
    """
    new = {path for record in records[_published(repository, records) :] for path in journal.told(record.taken)}
    return {path: blob for path, blob in taken.items() if path in new}


def _between(repository: Repository, old: bytes | None, new: bytes) -> Iterator[Difference]:
    before, after = repository.tree(Oid(old) if old else None), repository.tree(Oid(new))
    return compare(repository.database, before.root, after.root)


def _distrust(disk: Disk, repository: Repository, records: Sequence[Record]) -> None:
    for ref in (*refs.KEPT.values(), *refs.HEADS.values(), *refs.SHOWN.values()):
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
