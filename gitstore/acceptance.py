"""What a whole tree must keep to come in from outside: safe names, plain files, readable documents, no credentials.

Everything that is wrong is found at once, each with the place a person goes to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gitstore import credentials, evidence, names, paths, rules
from gitstore.context import GOVERNED, Context
from gitstore.documents import DocumentError
from gitstore.errors import GitstoreError, Invalid, SecretFound
from gitstore.model import Artifact, Task, Workflow
from gitstore.parsed import text_secrets
from gitstore.reading import shown
from gitstore.repository.trees import Difference, TreeEntry, TreeView
from gitstore.rules import Policy

Record = Workflow | Task | Artifact | evidence.Gone | evidence.Broken


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong. `line` and `column` count from 1, where they are known."""

    path: str
    message: str
    hint: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)
        more = f". {self.hint[0].upper()}{self.hint[1:]}" if self.hint and self.hint not in self.message else ""
        return f"{place}: {self.message}{more}"


class Refused(Invalid):
    """What was offered breaks rules; `faults` is all of them."""

    def __init__(self, subject: str, faults: list[Fault]) -> None:
        listed = "".join(f"\n  {fault}" for fault in faults[:50])
        more = f"\n  … and {len(faults) - 50} more" if len(faults) > 50 else ""
        count = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
        details: dict[str, Any] = {"problems": [msgspec.to_builtins(fault) for fault in faults]}
        super().__init__(f"{subject}: {count}{listed}{more}", details=details)
        self.faults = faults


def of_error(path: str, error: GitstoreError) -> Fault:
    """A fault from what a reader raised."""
    if isinstance(error, DocumentError):
        return Fault(shown(path), error.problem, error.hint, error.line, error.column)
    first = ((error.details or {}).get("errors") or [{}])[0] if isinstance(error, SecretFound) else {}
    hint = credentials.HINT if isinstance(error, SecretFound) else ""
    message = error.message.removeprefix(f"{path}: ").replace(f" {credentials.HINT}", "").rstrip(".")
    if first.get("line") is not None:
        message = str(first["message"])
    return Fault(shown(path), message, hint, first.get("line"), first.get("column"))


def distinct(faults: Iterable[Fault]) -> list[Fault]:
    """The faults, each once: two readers may have met the same one."""
    return list({(one.path, one.line, one.column, one.message.split(",")[0]): one for one in faults}.values())


def main_faults(tree: TreeView, policy: Policy, now: int, *, before: TreeView | None = None) -> list[Fault]:
    """Everything that keeps `tree` from being a context branch.

    Files that stand in `before` too, under the same path, are not read again in search of credentials.
    """
    found = [*_shape(tree, "")]
    known = {fault.path for fault in found}
    previous = Context(policy=policy)
    if before is not None:
        files = Context.load(before, previous=None, now=now, policy=policy).files
        previous = msgspec.structs.replace(previous, files=files)
    context = Context.load(tree, previous=previous, now=now)
    for problem in context.problems:
        if problem.path not in known or problem.code not in ("not_a_file", "case_twins", "depth"):
            text = problem.message
            if problem.line is not None:
                text = text.split(": ", 1)[-1].removesuffix(f"; {problem.hint}")
            text = text.replace(f" {credentials.HINT}", "").rstrip(".")
            found.append(Fault(problem.path, text, problem.hint, problem.line, problem.column))
    if policy == "refuse":
        found += _texts(tree, before)
    return found


def _texts(tree: TreeView, before: TreeView | None) -> Iterator[Fault]:
    """Credentials in what a person keeps beside the governed parts."""
    for path, node in tree.walk():
        if path.split("/", 1)[0] in GOVERNED or node.mode & 0o170000 != 0o100000:
            continue
        if before is not None and (old := before.node(path)) is not None and old.id == node.id:
            continue
        try:
            credentials.refuse(text_secrets(node.id.hex(), tree.source.blob(node.id)), shown(path))
        except SecretFound as error:
            yield of_error(path, error)


def changed_faults(before: TreeView, after: TreeView, changed: Iterable[Difference], policy: Policy) -> list[Fault]:
    """What in the files that differ keeps `after` from being a context branch, where `before` is one.

    What their documents say is left out: `Context.elsewhere` tells that.
    """
    found: list[Fault] = []
    folders: dict[str, set[str]] = {}
    for path, _, new in changed:
        if new is None:
            continue
        folder, inside = "", path
        while inside:
            name, _, inside = inside.partition("/")
            folders.setdefault(folder, set()).add(name)
            folder = f"{folder}/{name}" if folder else name
        if policy == "refuse" and path.split("/", 1)[0] not in GOVERNED and new.mode & 0o170000 == 0o100000:
            try:
                credentials.refuse(text_secrets(new.id.hex(), after.source.blob(new.id)), shown(path))
            except SecretFound as error:
                found.append(of_error(path, error))
    for folder, touched in folders.items():
        entries = after.entries(folder)
        if folder.split("/", 1)[0] in GOVERNED:  # whose names the context tells apart
            entries = [entry for entry in entries if entry.name in touched]
        faults = list(level(entries, "", folder))
        if faults:
            old = set(level(before.entries(folder), "", folder))
            found += [one for one in faults if one not in old or before.node(one.path) != after.node(one.path)]
    return found


def evidence_faults(workspace: str, tree: TreeView, policy: Policy, now: int) -> list[Fault]:
    """Everything that keeps `tree` from being an evidence branch."""
    places = [path for path, node in tree.walk() if node.mode & 0o170000 == 0o100000]
    return [*_shape(tree, "evidence/"), *record_faults(workspace, tree, places, policy, now)]


def record_faults(workspace: str, tree: TreeView, places: list[str], policy: Policy, now: int) -> list[Fault]:
    """What is wrong with the records that these paths of an evidence branch belong to."""
    found: list[Fault] = []
    ids: dict[tuple[str, str], str] = {}
    for record, path in records(workspace, tree, places, now):
        if isinstance(record, evidence.Broken):
            unread = isinstance(record.error, DocumentError) and not record.path.endswith(".yaml")
            place = f"{record.path}/{evidence.ARTIFACT_DOCUMENT}" if unread else record.path
            found.append(of_error(f"evidence/{place}", _without(record)))
            continue
        if isinstance(record, evidence.Gone):
            continue
        part = type(record).__name__.lower()
        other = ids.setdefault((part, record.id), path)
        if other != path:
            found.append(Fault(f"evidence/{path}", f"has the id of evidence/{other}", "Give one of them another name."))
        if isinstance(record, Artifact):
            try:
                rules.no_secret(record.metadata, "metadata", policy)
            except SecretFound as error:
                found.append(of_error(f"evidence/{path}", error))
    return found


def records(workspace: str, tree: TreeView, paths: list[str], now: int) -> Iterator[tuple[Record, str]]:
    """The records that paths of an evidence tree belong to, each with its file or folder."""
    for path in dict.fromkeys(evidence.folder_of(path) or path for path in paths):
        inside = f"{path}/{evidence.ARTIFACT_DOCUMENT}" if path.startswith("artifacts/") else path
        for record in evidence.changed(workspace, tree, [inside], time=now):
            yield record, path


def _without(record: evidence.Broken) -> GitstoreError:
    error = record.error
    error.message = error.message.removeprefix(f"{record.path}: ")
    return error


def _shape(tree: TreeView, prefix: str, folder: str = "") -> Iterator[Fault]:
    """Names no machine misreads, and nothing but plain files and folders."""
    entries = tree.entries(folder)
    yield from level(entries, prefix, folder)
    for entry in entries:
        inside = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_tree and inside.count("/") + 2 <= paths.MAX_DEPTH and not paths.means_git(entry.name):
            yield from _shape(tree, prefix, inside)


def level(entries: Iterable[TreeEntry], prefix: str, folder: str) -> Iterator[Fault]:
    """What is wrong with the entries of one folder, those of its folders left out."""
    seen: dict[str, str] = {}
    for entry in entries:
        inside = f"{folder}/{entry.name}" if folder else entry.name
        path = shown(prefix + inside)
        try:
            paths.check_component(entry.name)
        except Invalid as error:
            yield Fault(path, error.message, "Rename it, or leave it out.")
            continue
        kind = entry.mode & 0o170000
        if kind == 0o120000:
            yield Fault(path, "is a symbolic link, which is never followed", "Put a plain file there.")
        elif kind == 0o160000:
            yield Fault(path, "is a submodule, which is never followed", "Put its files there, or leave it out.")
        other = seen.setdefault(names.fold(entry.name), path)
        if other != path:
            yield Fault(path, f"differs from `{other}` only in case; macOS and Windows keep one of them", "Rename one.")
        if entry.is_tree and inside.count("/") + 2 > paths.MAX_DEPTH:
            yield Fault(path, f"is nested deeper than {paths.MAX_DEPTH} folders", "Move its files up.")
