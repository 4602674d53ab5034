"""Edits of a checkout as one change: each merged by meaning with what the branch has now, and held to the same rules.

An edit that breaks a rule, or that clashes with what somebody else changed, is left out and becomes a problem; the
others go on without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec

from gitstore import credentials, documents, names, paths, values
from gitstore.changes import Draft
from gitstore.context import GOVERNED, WORKSPACE, Context
from gitstore.errors import Damaged, GitstoreError, Invalid, SecretFound
from gitstore.lfs import attributes
from gitstore.lfs.pointer import decode
from gitstore.merging import Clash, Side, merge_file
from gitstore.model import Problem
from gitstore.parsed import text_secrets
from gitstore.reading import shown
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.status import Edit, Trouble

_SUSPECTS = 50  # edits that are tried one by one for the one that is to blame
_STAYS = "Until then the edit stays uncommitted and `main` keeps what it had."


class Taken(NamedTuple):
    """What came of some edits: the paths that changed the branch, the problems of those that could not, and the paths
    whose edit the branch has already, with more that the file has not."""

    paths: tuple[str, ...]
    problems: tuple[Problem, ...]
    behind: tuple[str, ...]


def take(draft: Draft, edits: Sequence[Edit], message: str | None, known: Mapping[str, Problem]) -> Taken:
    """Makes the edits part of the change. `known` are problems told before, by id: one that stays keeps its time."""
    problems: dict[str, Problem] = {}
    wanted: dict[str, Blob | None] = {}
    found = {edit.path: edit.blob for edit in edits}
    teller = Teller(draft.now, known)
    for edit in edits:
        try:
            _named(edit.path)
            result, clashes = _merged(draft, edit)
        except Invalid as error:
            problems[edit.path] = teller.of_error(edit.path, "name", error)
            continue
        if clashes:
            problems[edit.path] = teller.conflict(draft, edit, clashes)
            continue
        wanted[edit.path] = result
    if WORKSPACE in wanted and wanted[WORKSPACE] is None:
        # Somebody takes the whole folder away; what is missing now is no decision about each file.
        wanted = {path: blob for path, blob in wanted.items() if blob is not None or path == WORKSPACE}
    _judge(draft, wanted, problems, teller)
    _attributes(draft, edits, wanted)
    changed = {path: blob for path, blob in wanted.items() if not _is(draft, path, blob)}
    for path, blob in changed.items():
        _put(draft, path, blob)
        if path in found:
            draft.took(path, found[path])
    draft.describe("edit", message or _name(draft, changed))
    behind = found.keys() & wanted.keys() - changed.keys()
    return Taken(tuple(sorted(changed.keys() & found.keys())), tuple(problems.values()), tuple(sorted(behind)))


def settle(draft: Draft, edit: Edit, *, take: Literal["file", "main"] | None, value: object) -> None:
    """Ends a conflict: by the side that stands where both differ, or (`take` is None) with a value for the whole file.

    Raises Invalid where the result breaks a rule.
    """
    if take is None:
        mine = edit.blob.data if edit.blob is not None else draft.read(edit.path)
        result: bytes | None = _holding(edit.path, mine, value)
    else:
        result = _merge(draft, edit, "theirs" if take == "file" else "ours")[0]
    wanted = {edit.path: Blob(result) if result is not None else None}
    _attributes(draft, (edit,), wanted)
    problems: dict[str, Problem] = {}
    _judge(draft, wanted, problems, Teller(draft.now, {}))
    for problem in problems.values():
        raise Invalid(problem.message)
    for path, blob in wanted.items():
        _put(draft, path, blob)
    draft.took(edit.path, edit.blob)
    draft.describe("edit", f"settle {shown(edit.path)}")


def _attributes(draft: Draft, edits: Sequence[Edit], wanted: dict[str, Blob | None]) -> None:
    """Adds to `wanted` the attributes that make large objects of what is wanted as such."""
    data = wanted.get(attributes.NAME)
    text = data.data if data is not None else draft.read(attributes.NAME) if attributes.NAME not in wanted else None
    before = text
    for edit in edits:
        blob = wanted.get(edit.path)
        if edit.large is None or blob is None or decode(blob.data) is None:
            continue
        inner = {path: kept for path, kept in wanted.items() if path.endswith(f"/{attributes.NAME}")}

        def read(path: str, inner: Mapping[str, Blob | None] = inner, text: bytes | None = text) -> bytes | None:
            if path == attributes.NAME:
                return text
            held = inner.get(path)
            return held.data if held is not None else None if path in inner else draft.read(path)

        if not attributes.Attributes(read).covers(edit.path):
            text = attributes.added(text, edit.path)
    if text is not None and text != before:
        wanted[attributes.NAME] = Blob(text)


def _is(draft: Draft, path: str, blob: Blob | None) -> bool:
    return draft.blob(path) == (blob.id.hex() if blob is not None else None)


def _put(draft: Draft, path: str, blob: Blob | None) -> None:
    if blob is None:
        draft.remove(path)
    else:
        draft.write(path, blob)


# -- merging -----------------------------------------------------------------------------------------------------------


def _merged(draft: Draft, edit: Edit) -> tuple[Blob | None, tuple[Clash, ...]]:
    current = draft.blob(edit.path)
    now = bytes.fromhex(current) if current is not None else None
    if edit.base == now or (edit.blob is not None and edit.blob.id == now) or (edit.blob is None and now is None):
        return edit.blob, ()
    data, clashes = _merge(draft, edit, "ours")
    return Blob(data) if data is not None else None, clashes


def _merge(draft: Draft, edit: Edit, prefer: Side) -> tuple[bytes | None, tuple[Clash, ...]]:
    base = _content(draft, edit.base)
    mine = edit.blob.data if edit.blob is not None else None
    merged = merge_file(shown(edit.path), base, draft.read(edit.path), mine, prefer=prefer)
    return merged.data, merged.clashes


def _content(draft: Draft, blob: Oid | None) -> bytes | None:
    try:
        return draft.snapshot.blob(blob.hex()) if blob is not None else None
    except Damaged:
        return None  # somebody's git removed it, as nothing leads to it: then both sides are new


def _holding(path: str, data: bytes | None, value: object) -> bytes:
    if path.endswith(".yaml"):
        try:
            return documents.edit(data, value) if data is not None else documents.dump(value)
        except documents.DocumentError:
            return documents.dump(value)  # there is no telling what to keep of a file that cannot be read
    if not isinstance(value, str):
        raise Invalid(f"the value of `{shown(path)}` must be a text: it is no YAML file")
    return value.encode()


# -- rules -------------------------------------------------------------------------------------------------------------


def _named(path: str) -> None:
    if shown(path) != path:
        raise Invalid(f"the name of `{shown(path)}` is not UTF-8: rename the file")
    paths.check_tree_path(path)


def _judge(draft: Draft, wanted: dict[str, Blob | None], problems: dict[str, Problem], teller: Teller) -> None:
    """Takes out of `wanted` what breaks a rule, with its problem."""
    if draft.context.policy == "refuse":
        for path, blob in list(wanted.items()):
            if blob is not None and path.split("/", 1)[0] not in GOVERNED:
                try:
                    credentials.refuse(text_secrets(blob.id.hex(), blob.data), path)
                except SecretFound as error:
                    problems[path] = teller.of_error(path, "secret", error)
                    del wanted[path]
    slug = draft.context.fields.slug
    while wanted:
        before = {problem.id for problem in draft.context.problems}
        after = _after(draft, wanted)
        found = [one for one in after.problems if one.id not in before or one.path in wanted]
        if WORKSPACE in wanted and after.fields.slug != slug and not draft.free(after.fields.slug):
            text = f"the slug `{after.fields.slug}` is taken by another workspace"
            found.append(
                teller.make("invalid", WORKSPACE, "slug", text, f"Write another one, or `{slug}`.", key="slug")
            )
        if not found:
            return
        blamed: dict[str, Problem] = {}
        for problem in found:
            culprit = problem.path if problem.path in wanted else _culprit(draft, wanted, problem)
            if culprit is not None:
                blamed.setdefault(culprit, problem)
        if not blamed:
            # Nobody in particular: none of the edits that could have brought it about goes on.
            top = found[0].path.split("/", 1)[0]
            near = [path for path in wanted if path.split("/", 1)[0] == top]
            blamed = dict.fromkeys(near or wanted, found[0])
        for path, problem in blamed.items():
            del wanted[path]
            problems[path] = teller.told(problem, path)


def _after(draft: Draft, wanted: Mapping[str, Blob | None]) -> Context:
    return draft.context.after(draft.tree, wanted, draft.now)


def _culprit(draft: Draft, wanted: Mapping[str, Blob | None], problem: Problem) -> str | None:
    """The edit without which a problem of another file would not be."""
    for path in list(wanted)[:_SUSPECTS]:
        rest = {other: blob for other, blob in wanted.items() if other != path}
        if all(one.id != problem.id for one in (_after(draft, rest) if rest else draft.context).problems):
            return path
    return None


# -- words -------------------------------------------------------------------------------------------------------------


class Teller:
    """Makes the problems of a checkout; `known` are those told before, whose time is kept."""

    def __init__(self, now: int, known: Mapping[str, Problem]) -> None:
        self._now = values.iso(now)
        self._known = known

    def told(self, problem: Problem, path: str) -> Problem:
        """A problem that the rules found in an edit of `path`."""
        known = self._known.get(problem.id)
        hint = problem.hint.rstrip(".")
        return msgspec.structs.replace(
            problem,
            path=shown(path),
            since=known.since if known is not None else problem.since,
            hint=f"{hint}. {_STAYS}" if hint else _STAYS,
        )

    def of_error(self, path: str, code: str, error: GitstoreError) -> Problem:
        """A problem from what a rule raised."""
        secret = isinstance(error, SecretFound)
        hint = f"{credentials.HINT} {_STAYS}" if secret else _STAYS
        return self.make("secret" if secret else "invalid", path, code, error.message, hint)

    def trouble(self, trouble: Trouble) -> Problem:
        """A problem of something that cannot be read."""
        kind = "disk" if trouble.code == "unreadable" else "invalid"
        return self.make(kind, trouble.path, trouble.code, f"`{shown(trouble.path)}` {trouble.message}", trouble.hint)

    def conflict(self, draft: Draft, edit: Edit, clashes: Iterable[Clash]) -> Problem:
        """Both the file and the branch were changed; both values are told."""
        path = shown(edit.path)
        said = "; ".join(clash.text("in main", "in the file") for clash in list(clashes)[:5])
        key = names.classify("main", edit.path)[1]
        sides = {
            "file": _value(edit.path, edit.blob.data if edit.blob is not None else None),
            "main": _value(edit.path, draft.read(edit.path)),
        }
        return self.make(
            "conflict",
            edit.path,
            "conflict",
            f"`{path}` was changed here and in `main`: {said}",
            'Resolve it with {"take": "file"}, {"take": "main"} or {"value": …}, or edit the file until both agree. '
            + _STAYS,
            key=key,
            values=sides,
        )

    def make(
        self,
        kind: Any,
        path: str,
        code: str,
        message: str,
        hint: str,
        *,
        key: str | None = None,
        values: dict[str, Any] | None = None,
    ) -> Problem:
        """A problem; its id says where and what, so that the same one later has the same."""
        identity = sha256(f"checkout\0{path}\0{code}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        known = self._known.get(identity)
        since = known.since if known is not None else self._now
        return Problem(identity, kind, shown(path), code, message, hint, since, key=key, values=values)


def _value(path: str, data: bytes | None) -> Any:
    """What a file says, for people and programs: a document's value, a text, or size and digest; None for no file."""
    if data is None:
        return None
    if (pointer := decode(data)) is not None:
        return {"size_bytes": pointer.size, "sha256": pointer.oid}
    if path.endswith(".yaml"):
        try:
            return documents.load(data, path)
        except documents.DocumentError:
            pass  # then its text is what there is to show
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return {"size_bytes": len(data), "sha256": sha256(data).hexdigest()} if "\0" in text else text


def _name(draft: Draft, wanted: Mapping[str, Blob | None]) -> str:
    """The commit's subject: what was edited, in one line."""
    told = [shown(path) for path in sorted(wanted)]
    gone = sum(blob is None for blob in wanted.values())
    new = sum(blob is not None and draft.tree.blob(path) is None for path, blob in wanted.items())
    verb = "delete" if gone == len(wanted) else "add" if new == len(wanted) else "edit"
    if len(told) == 1:
        return f"{verb} {told[0]}"
    return f"{verb} {len(told)} files: {', '.join(told[:3])}{' …' if len(told) > 3 else ''}"
