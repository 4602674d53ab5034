"""Change sets: many operations, one commit. All of them happen or none; each sees what the earlier ones did.

A change set that carries a `request_id` is made once: sent again it is answered with the commit that it made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from msgspec import UNSET, UnsetType

from gitstore import files, memory, names, past, record, spec, values
from gitstore.causes import Cause
from gitstore.changes import Closed, Draft, Outcome, Workspace
from gitstore.context import SETTINGS, WORKSPACE, Context
from gitstore.errors import Conflict, GitstoreError, Invalid, PreconditionFailed, WrongShape
from gitstore.facts import COMMITTER_EMAIL, line, trailer
from gitstore.model import CommitFacts, Provenance, Touch
from gitstore.operations import Operation, set_together, together
from gitstore.pending import Pending
from gitstore.precondition import NONE, Precondition
from gitstore.repository.commits import Commit
from gitstore.repository.objects import Oid
from gitstore.snapshot import Snapshot
from gitstore.store import Store

OPERATIONS_MAX = 500
IDEMPOTENCY = "Idempotency"  # Gitstore-Idempotency: what was asked for, so that the same request is known again


class ChangeSet(msgspec.Struct, frozen=True):
    """What is wanted. `message` is the commit's subject, `expect_head` the commit that `main` must be at.

    `digest` stands for everything that was asked for: with the same `request_id` it is the same change set.
    """

    message: str
    operations: Sequence[Operation]
    expect_head: str | None = None
    precondition: Precondition = NONE
    request_id: str | None = None
    digest: str = ""


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one operation: whether it changed anything, and the resource as the change set leaves it.

    `key` names a memory key or file, `id` a file, `version` the spec's; `etag` is left out where the resource is gone.
    """

    op: str
    changed: bool
    key: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    etag: str | UnsetType = UNSET


class Changed(msgspec.Struct, frozen=True):
    """What became of a change set; `commit` is None where nothing was different."""

    head: str
    commit: str | None
    results: list[Result]
    repeated: bool = False


class _Done(msgspec.Struct, frozen=True):
    """One operation that ran: whether it changed anything, and the key that its resource has."""

    operation: Operation
    changed: bool
    key: str


class _Repeated(Exception):
    """The change set was made a moment ago."""


def submit(store: Store, reference: str, wanted: ChangeSet, who: Provenance) -> Pending[Changed]:
    """Makes the change set; may wait for an earlier change to be durable.

    Raises PreconditionFailed where `main` is not at `expect_head`, and what the operations raise, then with the place
    of the operation in `details.pointer`; Conflict where the `request_id` was used for another change set.
    """
    if not 1 <= len(wanted.operations) <= OPERATIONS_MAX:
        raise WrongShape([("/operations", f"must have 1 to {OPERATIONS_MAX} operations")])
    values.check(wanted.message)
    if not wanted.message.strip():
        raise Invalid("/message must not be blank", details={"pointer": "/message"})
    if wanted.request_id is not None:
        who = msgspec.structs.replace(who, request_id=wanted.request_id)
    while True:
        workspace = store.hot(reference) or store.load(reference)
        seen = workspace.visible
        if wanted.request_id is not None and (made := _made(store, seen, wanted)) is not None:
            return Pending.of(_repeat(store, workspace, wanted, made))
        try:
            pending = workspace.apply("main", _operation(workspace, wanted, seen), who)
        except Closed:
            continue  # it left memory between the look-up and the change
        except _Repeated:
            workspace.settled().result()  # then history knows it
            continue
        return pending.then(_answer)


def _operation(
    workspace: Workspace, wanted: ChangeSet, seen: Snapshot
) -> Callable[[Draft], tuple[list[_Done], dict[str, Touch | None]]]:
    def operation(draft: Draft) -> tuple[list[_Done], dict[str, Touch | None]]:
        if wanted.request_id is not None:
            for _, commit in line(workspace.repository, draft.snapshot.main.oid, seen.main.oid):
                if _is_of(commit, wanted):
                    raise _Repeated
            draft.more[IDEMPOTENCY] = wanted.digest
        return _run(draft, wanted)

    return operation


def _run(draft: Draft, wanted: ChangeSet) -> tuple[list[_Done], dict[str, Touch | None]]:
    head = draft.snapshot.main.head
    if wanted.expect_head is not None and wanted.expect_head.lower() != head:
        raise PreconditionFailed("expect_head does not hold: main has moved since. Read it, then repeat", current=head)
    wanted.precondition.check(draft.snapshot.etag)
    for at, operation in enumerate(wanted.operations):
        if operation.precondition != NONE:
            with placed(at, operation.op):
                operation.precondition.check(_current(draft, operation))
    done: list[_Done] = []
    kinds: set[str] = set()
    alone = 0  # up to where it is one by one
    while len(done) < len(wanted.operations):
        at = len(done)
        count = together(wanted.operations[at:]) if at >= alone else 0
        if count > 1:
            some = wanted.operations[at : at + count]
            changes = _at_once(draft, some)
            if changes is None:
                alone = at + count  # which of them is wrong, and where, is found out now
                continue
            done += [_Done(one, changed, one.key) for one, changed in zip(some, changes, strict=True)]
        else:
            operation = wanted.operations[at]
            with placed(at, operation.op, operation.inside):
                key = _key(draft.context, draft.workspace, operation)
                changes = [operation.run(draft)]
            done.append(_Done(operation, changes[0], key))
        if any(changes):
            kinds.add(draft.kind)
            draft.proceed()
    draft.name = names.one_line(wanted.message)
    draft.kind = kinds.pop() if len(kinds) == 1 else "changes"
    paths = {path for one in done for path in _paths(draft.context, one)}
    return done, {path: draft.last_touch(path) for path in paths}


def _at_once(draft: Draft, some: Sequence[Operation]) -> list[bool] | None:
    """Several keys set at once, for each look at a large memory costs; None, and nothing done, where one is wrong."""
    before = dict(draft.edits)
    try:
        return set_together(draft, some)
    except GitstoreError:
        draft.edits = before
        return None


@contextmanager
def placed(at: int, op: str, inside: str = "") -> Iterator[None]:
    """What is raised inside says which operation raised it; its own pointers are relative to the member `inside`."""
    place = f"/operations/{at}"
    try:
        yield
    except WrongShape as error:
        faults = [(f"{place}{inside}{pointer}", text) for pointer, text in error.faults]
        raise WrongShape(faults, error.message) from None
    except GitstoreError as error:
        details = dict(error.details or {})
        inner = details.get("pointer")
        if not isinstance(inner, str) or not inner.startswith("/"):
            details["pointer"] = place
        elif not inner.startswith(place):
            details["pointer"] = f"{place}{inside}{inner}"
        error.message = f"{place} ({op}): {error.message}"
        error.details = details
        raise


# --- resources --------------------------------------------------------------------------------------------------------


def _key(context: Context, workspace: str, operation: Operation) -> str:
    """The key of the operation's file or memory entry; a file may be named by its id."""
    if operation.part != "file":
        return operation.key
    stored = files.find(context, workspace, operation.key)
    return stored.key if stored is not None else operation.key


def _current(draft: Draft, operation: Operation) -> str | None:
    """The ETag of the operation's resource as it was before the change set; None where there is none."""
    key = _key(draft.context, draft.workspace, operation)
    match operation.part:
        case "memory":
            return memory.entry_etag(draft, key)
        case "file":
            return files.entry_etag(draft, key)
        case "spec":
            return spec.etag(draft.spec_version, draft.context.spec)
        case "workspace":
            return draft.snapshot.etag


def _paths(context: Context, done: _Done) -> list[str]:
    """The files whose last change decides the ETag of the operation's resource."""
    if done.operation.part == "memory":
        entry = context.memory.get(done.key)
        return [entry.path] if entry is not None else []
    if done.operation.part == "file":
        stored = context.files.get(done.key)
        return [stored.path, names.meta_path(stored.path)] if stored is not None else []
    return []


def _result(done: _Done, after: Snapshot, touch: Callable[[str], Touch | None], etag: str | None) -> Result:
    """`etag` is the workspace's, if it is known."""
    context, key = after.context, done.key
    made: dict[str, object] = {}
    match done.operation.part:
        case "memory":
            made["key"] = key
            if (entry := context.memory.get(key)) is not None:
                made["etag"] = values.etag(record.render_memory_entry(entry, touch(entry.path)))
        case "file":
            made |= {"key": key, "id": files.identity(after.workspace, key)}
            if (stored := context.files.get(key)) is not None:
                made["etag"] = files.etag(stored, files.touched(stored, touch))
        case "spec":
            made |= {"version": after.spec_version, "etag": spec.etag(after.spec_version, context.spec)}
        case "workspace":
            made |= {"etag": etag} if etag is not None else {}
    return Result(done.operation.op, done.changed, **made)  # type: ignore[arg-type]  # each as the cases above give it


def _answer(outcome: Outcome[tuple[list[_Done], dict[str, Touch | None]]]) -> Changed:
    (done, before), after, commit = outcome
    here = Touch(commit.id, commit.time, commit.actor) if commit is not None else None
    written = {path for change in commit.changes for path in change.paths} if commit is not None else set()

    def touch(path: str) -> Touch | None:
        return here if path in written else before.get(path)

    results = [_result(one, after, touch, after.etag) for one in done]
    return Changed(after.main.head or "", commit.id if commit is not None else None, results)


# --- the same again ---------------------------------------------------------------------------------------------------


def _made(store: Store, seen: Snapshot, wanted: ChangeSet) -> str | None:
    """The commit that a change set with this request id made, if there is one. Raises Conflict for another one's."""
    history, head = store.history, seen.main.head
    until = history.position(seen.workspace, head) if head is not None else None
    if until is None:
        return None
    for _, facts in history.caused(seen.workspace, Cause(request_id=wanted.request_id), until):
        if _is_of(seen.commit(facts.id), wanted):
            return facts.id
    return None


def _is_of(commit: Commit, wanted: ChangeSet) -> bool:
    """Whether a commit is of a change set with this request id. Raises Conflict where that wanted something else."""
    trailers = commit.trailers if commit.committer.email == COMMITTER_EMAIL else {}
    digest = trailers.get(f"Gitstore-{IDEMPOTENCY}")
    if digest is None or trailers.get("Gitstore-Request") != trailer(wanted.request_id):
        return False
    if digest != wanted.digest:
        raise Conflict(
            "the request_id was used for another change set: choose a new one", details={"pointer": "/request_id"}
        )
    return True


def _repeat(store: Store, workspace: Workspace, wanted: ChangeSet, commit: str) -> Changed:
    """The answer that the change set was given, or would have been; a workspace's ETag only while it is the same."""
    moment = past.resolve(store, workspace, commit)
    after = past.snapshot_at(store, workspace, moment)
    story = past.story(store.history, workspace.repository, workspace.id, "main", commit)
    facts: CommitFacts | None = store.history.commit(workspace.id, commit)
    written = {path for change in facts.changes for path in change.paths} if facts is not None else set()
    before = workspace.repository.commit(Oid(bytes.fromhex(commit))).parents
    then = Context.load(
        workspace.repository.tree(before[0] if before else None), previous=None, now=moment.time, policy="allow"
    )
    now = workspace.visible
    etag = now.etag if now.main.head == commit else None
    results = []
    for operation in wanted.operations:
        context = after.context if operation.part != "file" else then
        key = _key(context, workspace.id, operation)
        done = _Done(operation, False, key)
        touched = {*_paths(after.context, done), *_paths(then, done)}
        if operation.part == "spec":
            touched = {path for path in written if path.startswith("spec/")}
        elif operation.part == "workspace":
            touched = {SETTINGS if operation.op == "settings.patch" else WORKSPACE}
        done = _Done(operation, not touched.isdisjoint(written), key)
        results.append(_result(done, after, story.touch, etag))
    return Changed(commit, commit, results, repeated=True)
