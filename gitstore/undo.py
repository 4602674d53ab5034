"""Turning `main` back: what a restore and a revert have in common. Each makes one commit of ours on the newest state.

The id of a workspace never changes by it, a slug must be free, and a file that today's rules refuse does not come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from gitstore import documents, values
from gitstore.acceptance import Refused, changed_faults, distinct, main_faults
from gitstore.changes import Closed, Outcome
from gitstore.context import WORKSPACE, Context
from gitstore.diff import FileDiff, describe, moved
from gitstore.documents import DocumentError
from gitstore.errors import Invalid
from gitstore.joining import Turn, turn
from gitstore.merging import Layer, Merged
from gitstore.model import CommitFacts, Provenance
from gitstore.pending import Pending
from gitstore.repository.objects import Blob, Object, Oid
from gitstore.repository.trees import FILE_MODE, Node, TreeView, compare, rewrite
from gitstore.snapshot import Snapshot
from gitstore.store import Store

Edits = Mapping[str, Node | None]


class Undone(msgspec.Struct, frozen=True):
    """What became of it: `commit` is None where nothing was different, and where it was only tried.

    `head` is the commit of `main` that it stands on, or made, `etag` that of the workspace then; `before` and `after`
    are the files of `main`.
    """

    commit: CommitFacts | None
    head: str
    etag: str
    before: TreeView
    after: TreeView

    def changes(self, most: int) -> tuple[list[FileDiff], int]:
        """The first `most` files that it changed, with what it changed in them, and how many there are."""
        found = moved(self.before, self.after)
        return list(describe(found[:most], self.before, self.after, "main")), len(found)


class Files(NamedTuple):
    """The files that `main` is to have; `context` is what they say, where that is known."""

    merged: Merged
    context: Context | None


def edited(base: Snapshot, edits: Edits, made: Iterable[Object] = ()) -> Files:
    """The files of `main` with these edits, checked; `made` has the blobs among them that are not stored yet.

    Raises Refused, which names every file that breaks a rule and did not before; Conflict where a file cannot take the
    place of a folder, or the reverse.
    """
    source = base.tree().source
    blobs = {item.id: item for item in made}
    wanted = dict(edits)
    _keep_id(base, wanted, blobs)
    root, trees = rewrite(source, base.main.root, wanted)
    used = {node.id for node in wanted.values() if node is not None}
    new = [item for oid, item in blobs.items() if oid in used]
    merged = Merged(root, [*new, *(item for item, _ in trees)], trees, ())
    return Files(merged, _checked(base, *seen(base, merged)))


def seen(base: Snapshot, merged: Merged) -> tuple[TreeView, TreeView]:
    """The files before and after, readable although nothing is stored yet."""
    layer = Layer(base.tree().source)
    layer.add(merged)
    return TreeView(layer, base.main.root), TreeView(layer, merged.root)


def tried(base: Snapshot, merged: Merged) -> Undone:
    """What would become of it."""
    before, after = seen(base, merged)
    return Undone(None, base.main.head or "", base.etag, before, after)


def apply(
    store: Store, reference: str, make: Callable[[Snapshot], Turn], who: Provenance
) -> Pending[tuple[Turn, Undone]]:
    """Does it; `make` is called inside the lock, with the newest state. Raises what `joining.turn` and `make` do."""
    bases: list[Snapshot] = []

    def noted(base: Snapshot) -> Turn:
        bases.append(base)
        return make(base)

    def undone(outcome: Outcome[Turn]) -> tuple[Turn, Undone]:
        now = outcome.snapshot
        return outcome.value, Undone(outcome.commit, now.main.head or "", now.etag, bases[-1].tree(), now.tree())

    while True:
        workspace = store.hot(reference) or store.load(reference)
        try:
            return turn(workspace, noted, who).then(undone)
        except Closed:
            continue  # it left memory between the look-up and the change


def subject(message: str | None, otherwise: str) -> str:
    """The subject of the commit. Raises Malformed for a message that is no text, Invalid for an empty one."""
    if message is None:
        return otherwise
    values.check(message)
    if not message.strip():
        raise Invalid("the message must not be blank", details={"pointer": "/message"})
    return message


def oid(text: str) -> Oid:
    """The 20 bytes of an id."""
    return Oid(bytes.fromhex(text))


def _keep_id(base: Snapshot, edits: dict[str, Node | None], blobs: dict[Oid, Object]) -> None:
    """Where `workspace.yaml` is turned back to one that says another id, the workspace keeps its own."""
    node = edits.get(WORKSPACE)
    if node is None:
        return
    held = blobs.get(node.id)
    data = held.data if held is not None else base.tree().source.blob(node.id)
    try:
        document = documents.load(data)
        if not isinstance(document, dict) or str(document.get("id")).lower() == base.workspace:
            return
        blob = Blob(documents.edit(data, {**document, "id": base.workspace}))
    except DocumentError:
        return  # which is told with everything else that is wrong
    blobs[blob.id] = blob
    edits[WORKSPACE] = Node(FILE_MODE, blob.id)


def _checked(base: Snapshot, before: TreeView, after: TreeView) -> Context | None:
    """The context of the files after, if it can be told from the one before. Raises Refused."""
    policy, now = base.context.policy, base.main.time
    if not base.context.problems:
        changed = list(compare(after.source, before.root, after.root))
        context = base.context.elsewhere(after, changed, now)
        if not context.problems and not changed_faults(before, after, changed, policy):
            return context
    found = main_faults(after, policy, now, before=before)
    if found:
        old = set(main_faults(before, policy, now))
        found = [one for one in found if one not in old or before.node(one.path) != after.node(one.path)]
    if found:
        raise Refused("what was there then breaks the rules of today", distinct(found))
    return None
