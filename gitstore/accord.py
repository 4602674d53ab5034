"""Whether the derived indexes say what the branches say: history, catalog and search, row by row.

The databases are copied first, each as of one moment, so that a running server may go on writing.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from gitstore import evidence, feeding
from gitstore.catalog import Catalog
from gitstore.documents import DocumentError, load
from gitstore.errors import GitstoreError, StoreBusy
from gitstore.facts import line, walk
from gitstore.history import History
from gitstore.layout import Layout
from gitstore.model import Artifact, Branch, CommitFacts, Task, Workflow
from gitstore.repository.disk import Hold
from gitstore.repository.objects import Oid
from gitstore.search.state import STATE, State
from gitstore.store import Options, Store
from gitstore.survey import BRANCHES, Standing, Survey, is_open

_REINDEX = "Stop the server and run `gitstore reindex`; for search alone it need not be stopped."
_COLUMNS = ("path", "content_type", "size", "workflow_id", "task_id", "work_item_id", "stage_name", "role")
_LOOK = 0.05  # seconds between two looks at how far it is
_PATIENCE = 60.0  # seconds without a sign of life from a server that was asked
_HEALS = "The next start brings it up to date."

Progress = Callable[[str, int, int | None], None]
Severity = Literal["error", "warning"]
Note = tuple[Severity, str, str, str]


def indexes(data: Path, survey: Survey, sound: Sequence[Standing]) -> Iterator[Note]:
    """Severity, place, message and hint of everything in which an index differs from the `sound` workspaces."""
    derived = survey.layout.derived
    running = is_open(data)
    # What is only behind: a running server is about to bring it up, after a crash the next start does.
    late: Severity | None = None if running else "warning" if any(survey.layout.journal.glob("*.log")) else "error"
    with tempfile.TemporaryDirectory(prefix="gitstore-verify-") as scratch:
        copies: dict[str, Path] = {}
        for name in ("history.sqlite", "catalog.sqlite"):
            if not (derived / name).exists():
                yield "warning", f"derived/{name}", "is missing", "The next start makes it again."
                continue
            target = Path(scratch) / name
            fault = _copied(derived / name, target, live=running)
            if fault is not None and is_open(data):  # a server may have been started meanwhile
                target.unlink(missing_ok=True)
                fault = _copied(derived / name, target, live=True)
            if fault is not None:
                yield "error", f"derived/{name}", fault, _REINDEX
            else:
                copies[name] = target
        if "history.sqlite" in copies and "catalog.sqlite" in copies:
            # Read again: what the copies have beyond the first survey is in the second.
            with Survey(data) as later:
                yield from _compared(copies, sound, later, late)
    yield from _search(survey, late)


def reindex(data: Path, options: Options, progress: Progress | None = None) -> int:
    """Throws the indexes away and makes them again from the branches; of how many workspaces.

    Only the times at which keys were last used are carried over, for no branch has them. Raises StoreBusy where a
    process has the store open and does not make the search index anew when asked, or opens it just then; NotFound where
    there is none.
    """
    tell = progress or (lambda *_: None)
    layout = Layout(data.absolute())
    layout.check()
    used: dict[str, int] = {}
    old = layout.derived.with_name("derived.old")
    try:
        hold = Hold(layout.lock)
    except OSError:
        return _asked(layout, tell)
    try:
        shutil.rmtree(old, ignore_errors=True)
        if (layout.derived / "catalog.sqlite").exists():  # else there is nothing to carry over, nor to make before
            catalog = Catalog(layout.derived / "catalog.sqlite")
            used = catalog.keys_used()
            catalog.close()
        if layout.derived.exists():
            layout.derived.rename(old)
    finally:
        hold.release()
    began = time.monotonic()
    done = threading.Event()

    def wait() -> None:
        while not done.wait(0.5):
            tell("indexing", int(time.monotonic() - began), None)

    ticking = threading.Thread(target=wait, daemon=True)
    ticking.start()
    try:
        with Store.open(data, options) as store:
            for prefix, when in used.items():
                store.catalog.key_used(prefix, when)
            while (standing := store.derived.standing()).index != "ready":
                tell("search (per mille)", int(standing.progress * 1000), 1000)
                time.sleep(_LOOK)
            store.search.flush()
            return len(store.catalog.workspaces())
    finally:
        done.set()
        ticking.join()
        shutil.rmtree(old, ignore_errors=True)


def _asked(layout: Layout, tell: Progress) -> int:
    """Asks the process that has the store open for a new search index, and waits until it is whole."""
    feeding.ask(layout.derived)
    until = time.monotonic() + _PATIENCE
    while (progress := feeding.answer(layout.derived)) is not None:
        if progress:
            until = time.monotonic() + _PATIENCE
            tell("search (per mille)", int(float(progress) * 1000), 1000)
        if time.monotonic() > until:
            feeding.withdraw(layout.derived)
            raise StoreBusy(f"the process that has the store {layout.root} open does not answer: stop it first")
        time.sleep(_LOOK)
    return sum(1 for one in layout.workspaces.iterdir() if not one.name.startswith("."))


def _copied(source: Path, target: Path, *, live: bool) -> str | None:
    """Copies a database as of one moment; why not, if it is damaged. Only one in use has files of SQLite's beside it
    that a reader may share; else nothing is opened in the data folder, for that would make some."""
    connection = into = None
    try:
        if live:
            connection = sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=5.0)
            into = sqlite3.connect(target)
            connection.backup(into)
        else:
            for suffix in ("", "-wal"):
                if source.with_name(source.name + suffix).exists():
                    shutil.copyfile(source.with_name(source.name + suffix), target.with_name(target.name + suffix))
            into = sqlite3.connect(target)
        (verdict,) = into.execute("PRAGMA integrity_check(1)").fetchone()
        return None if verdict == "ok" else f"is damaged: {verdict}"
    except sqlite3.DatabaseError as error:
        return f"is damaged: {error}"
    finally:
        for one in (connection, into):
            if one is not None:
                one.close()


def _compared(
    copies: Mapping[str, Path], sound: Sequence[Standing], later: Survey, late: Severity | None
) -> Iterator[Note]:
    try:
        history, catalog = History(copies["history.sqlite"]), Catalog(copies["catalog.sqlite"])
    except GitstoreError as error:
        yield "error", "derived", error.message, _REINDEX
        return
    try:
        for name, opened in (("history.sqlite", history), ("catalog.sqlite", catalog)):
            if opened.opened_empty:
                yield "error", f"derived/{name}", "was written by another release, or is damaged", _REINDEX
                return
        now = {one.id: one for one in later}
        for one in sound:
            if one.id not in now:
                continue  # it was deleted meanwhile
            try:
                yield from _of_workspace(history, catalog, now[one.id], late)
            except GitstoreError as error:
                yield "error", f"derived ({one.folder})", f"cannot be compared: {error.message}", _REINDEX
        if late is not None:
            for gone in sorted(set(catalog.workspaces()) - now.keys() - {one.id for one in sound}):
                yield "error", "derived/catalog.sqlite", f"knows the workspace {gone}, which is not there", _REINDEX
    finally:
        history.close()
        catalog.close()


def _of_workspace(history: History, catalog: Catalog, one: Standing, late: Severity | None) -> Iterator[Note]:
    known = history.heads()
    hint = _REINDEX if late == "error" else _HEALS
    facts: dict[Branch, list[CommitFacts]] = {}
    for branch in BRANCHES:
        head, indexed = one.heads[branch], known.get((one.id, branch))
        commits = line(one.repository, head, None)
        on_line = [oid.hex() for oid, _ in commits]
        place = f"derived/history.sqlite ({one.folder}, {branch})"
        if indexed is not None and indexed not in on_line:
            yield "error", place, f"reflects {indexed[:12]}, which is not on the branch", _REINDEX
            return
        if indexed != one.head(branch) and late is not None:
            yield late, place, f"ends at {str(indexed)[:12]}, the branch at {str(one.head(branch))[:12]}", hint
        reach = on_line.index(indexed) + 1 if indexed is not None else 0
        facts[branch] = list(walk(one.repository, branch, commits[:reach], 0))
        yield from _lines(history, one, branch, facts[branch], place)
    yield from _catalog(history, catalog, one, facts, late, hint)


def _lines(history: History, one: Standing, branch: Branch, wanted: list[CommitFacts], place: str) -> Iterator[Note]:
    bounds = history.bounds(one.id, branch)
    count = bounds.count if bounds is not None else 0
    if count != len(wanted):
        yield "error", place, f"has {count} commits, the branch {len(wanted)}", _REINDEX
        return
    for fact in wanted:
        held = history.commit(one.id, fact.id)
        if held is None or held != _as_held(fact, held):
            yield "error", place, f"says something else of commit {fact.id[:12]} than git", _REINDEX
            return


def _as_held(fact: CommitFacts, held: CommitFacts) -> CommitFacts:
    """What history keeps of a commit's changes is bounded; the paths it shows must be among the commit's."""
    if held.changes != fact.changes and set(held.changes) <= set(fact.changes):
        return msgspec.structs.replace(fact, changes=held.changes)
    return fact


def _catalog(
    history: History,
    catalog: Catalog,
    one: Standing,
    facts: Mapping[Branch, Sequence[CommitFacts]],
    late: Severity | None,
    hint: str,
) -> Iterator[Note]:
    place = f"derived/catalog.sqlite ({one.folder})"
    row = catalog.workspace(one.id)
    if row is None:
        if late is None:
            return
        yield late, place, "does not know the workspace", hint
        return
    on_line = {fact.id for fact in facts["main"]}
    if row.main is None or row.main not in on_line:
        # The catalog is written after history: beside a server it may be ahead of the copy.
        if late is not None:
            yield "error", place, f"reflects {row.main}, which history has not", hint
        return
    view = one.repository.tree(Oid(bytes.fromhex(row.main)))
    try:
        document = load(view.read("workspace.yaml") or b"")
    except DocumentError:
        document = None  # the row then keeps what was last good
    if isinstance(document, dict):
        for field, default in (("slug", None), ("name", None), ("description", None), ("is_active", True)):
            said, held = document.get(field, default), getattr(row, field)
            if said != held:
                yield "error", place, f"says {held!r} for {field}, workspace.yaml {said!r}", _REINDEX
    first = facts["main"][0].time
    if row.created_at != first:
        yield "error", place, f"says the workspace began at {row.created_at}, its first commit {first}", _REINDEX
    indexed = catalog.indexed(one.id).evidence
    if indexed is None and one.heads["evidence"] is None:
        return
    if indexed != one.head("evidence") and late is not None:
        yield late, place, f"has the evidence up to {str(indexed)[:12]}, not {str(one.head('evidence'))[:12]}", hint
    if indexed is not None and indexed in {fact.id for fact in facts["evidence"]}:
        yield from _records(history, catalog, one, indexed, place)


def _records(history: History, catalog: Catalog, one: Standing, indexed: str, place: str) -> Iterator[Note]:
    tree = one.repository.tree(Oid(bytes.fromhex(indexed)))
    wanted: dict[tuple[str, str], Workflow | Task | Artifact] = {}
    seen: set[str] = set()
    for path, _ in tree.walk():
        if (folder := evidence.folder_of(path)) is not None:
            if folder in seen:
                continue
            seen.add(folder)
        touch = history.last_touch(one.id, "evidence", path)
        time = touch.time if touch is not None else 0
        commit = touch.commit if touch is not None else None
        for record in evidence.changed(one.id, tree, [path], time=time, commit=commit):
            if isinstance(record, (Workflow, Task, Artifact)):
                wanted[type(record).__name__.lower(), record.id] = record
    lists: list[tuple[str, Callable[[str], Sequence[Workflow | Task | Artifact]]]] = [
        ("workflow", catalog.workflows),
        ("task", catalog.tasks),
        ("artifact", catalog.artifacts),
    ]
    for part, listed in lists:
        held = {(part, record.id): record for record in listed(one.id)}
        ours = {key: record for key, record in wanted.items() if key[0] == part}
        for key in sorted(held.keys() ^ ours.keys()):
            text = "is not in the catalog" if key in ours else "is in the catalog, but not on the branch"
            yield "error", place, f"{part} {key[1]} {text}", _REINDEX
        for key in sorted(held.keys() & ours.keys()):
            if _plain(held[key]) != _plain(ours[key]) or not _findable(catalog, one.id, ours[key]):
                yield "error", place, f"{part} {key[1]} is not as the branch has it", _REINDEX
    rows = {row.id: row for row in catalog.artifact_rows(one.id, now=0)}
    for (part, identity), record in wanted.items():
        if part == "artifact" and identity in rows:
            row = msgspec.to_builtins(rows[identity])
            if any(row[key] != getattr(record, key) for key in _COLUMNS):
                yield "error", place, f"artifact {identity} is listed with other facts than the branch has", _REINDEX


def _findable(catalog: Catalog, workspace: str, record: Workflow | Task | Artifact) -> bool:
    """Whether a look-up by id leads to the record (or to one of the same id in an older workspace)."""
    if isinstance(record, Workflow):
        return catalog.workflow(record.id) is not None
    if isinstance(record, Task):
        return catalog.task(record.id) is not None
    return catalog.artifact(workspace, record.id, now=0) is not None


def _plain(record: Workflow | Task | Artifact) -> object:
    """A record for comparison: the commit and the times a document does not give depend on who asks when."""
    data = msgspec.to_builtins(record)
    for key in ("commit", "updated_at", "created_at"):
        data.pop(key, None)
    return data


def _search(survey: Survey, late: Severity | None) -> Iterator[Note]:
    folder = survey.layout.derived / "search"
    if not (folder / STATE).exists():
        return  # nobody has searched or waited yet; what is missing is put there in the background
    for attempt in range(3):
        try:
            state = msgspec.json.decode((folder / STATE).read_bytes(), type=State)
            bad = [name for name, (size, total) in state.files.items() if not _whole(folder / name, size, total)]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            yield "error", "derived/search", f"{STATE} cannot be read: {error}", _REINDEX
            return
        except FileNotFoundError:
            bad = ["a segment"]
        if not bad:
            break
        if attempt == 2:
            yield "error", "derived/search", f"{bad[0]} is missing or damaged", _REINDEX
    for one in survey:
        for branch in BRANCHES:
            # To be behind is nothing: it is made good in the background. What is marked must be on the branch.
            marker = state.markers.get(f"{one.id} {branch}")
            if marker is not None and late is not None and not _reaches(one, branch, marker):
                text = f"{one.folder} is searchable up to {marker[:12]}, which is not on the branch {branch}"
                yield "error", "derived/search", text, _REINDEX
    if late is not None:
        for gone in sorted({name.split(" ", 1)[0] for name in state.markers} - {one.id for one in survey}):
            yield "error", "derived/search", f"knows the workspace {gone}, which is not there", _REINDEX


def _reaches(one: Standing, branch: Branch, commit: str) -> bool:
    """Whether a commit is on the line of a branch."""
    return any(oid.hex() == commit for oid, _ in line(one.repository, one.heads[branch], None))


def _whole(path: Path, size: int, total: int) -> bool:
    data = path.read_bytes()
    return len(data) == size and zlib.crc32(data) == total
