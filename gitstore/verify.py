"""Whether a store is sound: every object, ref, document, checkout, secret and key, and the indexes made from them.

It only reads, without the store's lock, so it may run beside a server; what the server is about to do (publish, take a
person's commit in, bring an index up) is then no finding. An `error` is something that is wrong and does not heal by
itself at the next start; a `warning` is something a person should know.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from gitstore import names, proof, trash
from gitstore.acceptance import evidence_faults, main_faults
from gitstore.accord import indexes
from gitstore.errors import Damaged, GitstoreError, NotFound
from gitstore.keys import Keys
from gitstore.layout import Layout
from gitstore.lfs import Objects, Pointer
from gitstore.reading import shown
from gitstore.repository import check, journal, refs, tags
from gitstore.repository.disk import Disk
from gitstore.repository.index import Index, IndexForeign
from gitstore.repository.measure import measure
from gitstore.repository.objects import NAMES, Oid, identify
from gitstore.repository.packs import checksum_holds
from gitstore.repository.trees import Node, decode_path
from gitstore.repository.worktree import regular
from gitstore.rules import Policy
from gitstore.secrets import Vault, decode_file
from gitstore.survey import BRANCHES, Standing, Survey, is_open

Progress = Callable[[str, int, int | None], None]
_AGAIN = "Upload the content again, `git lfs push` it from a clone that has it, or restore it from a backup."


class Finding(msgspec.Struct, frozen=True):
    """One thing that verification noticed. `place` is a path below the data folder; a path in git follows a colon."""

    severity: Literal["error", "warning"]
    place: str
    message: str
    hint: str = ""


def verify(
    data: Path,
    *,
    secret_key: str | None = None,
    policy: Policy = "refuse",
    progress: Progress | None = None,
    search: bool = False,
) -> Iterator[Finding]:
    """Everything that is wrong with the store in `data`, as it is found.

    `search`: also every document in git against every document in the search index. `secret_key` is the master key, if
    it is given in the configuration. Raises NotFound where there is no store, FormatUnknown for a newer one.
    """
    tell = progress or (lambda *_: None)
    layout = Layout(data.absolute())
    layout.check()
    yield from _keys(layout)
    for text in journal.faults(str(layout.journal)):
        yield Finding("error", "journal", text, "Changes that were acknowledged may be lost; restore from a backup.")
    try:
        survey = Survey(data)
    except Damaged as error:
        yield Finding("error", "journal", error.message, "Restore from a backup.")
        return
    with survey:
        for folder, broken in survey.broken:
            yield Finding("error", f"workspaces/{folder}", broken.message, "Restore it from a backup.")
        running = is_open(data)
        sound: list[Standing] = []
        checked: dict[tuple[int, int], bool] = {}
        for number, one in enumerate(survey):
            tell(f"workspaces ({one.folder})", number, len(survey.standing))
            yield from _workspace(one, policy, running, sound)
            yield from _large(one, checked)
        yield from _secrets(survey, secret_key)
        tell("indexes", 0, None)
        for severity, place, message, hint in indexes(data, survey, sound):
            yield Finding(severity, place, message, hint)
        if search:
            tell("search", 0, None)
            for severity, place, message, hint in proof.search(survey):
                yield Finding(severity, place, message, hint)
    for left in trash.places(layout):
        hint = "The next import or purge removes it."
        yield Finding("warning", str(left.relative_to(layout.root)), "was left by an interrupted command", hint)


def sound(findings: Iterable[Finding]) -> bool:
    """Whether none of the findings is an error."""
    return not any(finding.severity == "error" for finding in findings)


def _keys(layout: Layout) -> Iterator[Finding]:
    try:
        Keys.open(layout.keys, token_key=bytes(32))
        if layout.keys.exists() and stat.S_IMODE(layout.keys.stat().st_mode) & 0o077:
            yield Finding("warning", "keys.yaml", "can be read by others than its owner", f"chmod 600 {layout.keys}")
    except GitstoreError as error:
        yield Finding("error", "keys.yaml", error.message, "Mend it by hand, or restore it from a backup.")


def _secrets(survey: Survey, secret_key: str | None) -> Iterator[Finding]:
    folder = survey.layout.secrets
    sealed: dict[str, bytes] = {}
    if folder.is_dir():
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if names.is_uuid(entry.name):
                sealed[entry.name] = Path(entry.path).read_bytes()
            if entry.name not in ("lock",) and entry.is_file() and stat.S_IMODE(entry.stat().st_mode) & 0o077:
                place = f"secrets/{entry.name}"
                yield Finding("warning", place, "can be read by others than its owner", f"chmod 600 {entry.path}")
    sealed.update({one.id: one.sealed for one in survey if one.sealed is not None})
    if not sealed:
        return
    known = {one.id for one in survey} | {one.id for one in trash.contents(survey.layout)}
    vault: Vault | None = None
    try:
        if secret_key is not None or (folder / "key").exists():
            vault = Vault.open(folder, secret_key)
        else:
            yield Finding("error", "secrets/key", "is missing: no sealed secret can be opened", "Restore it.")
    except GitstoreError as error:
        yield Finding("error", "secrets/key", error.message)
    for identity, data in sealed.items():
        place = f"secrets/{identity}"
        if identity not in known:
            yield Finding("warning", place, "belongs to no workspace", "Remove it, if the workspace is gone for good.")
        try:
            for name, text in decode_file(data)[0].items():
                if vault is not None:
                    vault.unseal(identity, name, text)
        except GitstoreError as error:
            yield Finding("error", place, error.message, "Restore it, or store the secret again.")


# --- one workspace ----------------------------------------------------------------------------------------------------


def _workspace(one: Standing, policy: Policy, running: bool, sound: list[Standing]) -> Iterator[Finding]:
    place = f"workspaces/{one.folder}"
    if one.heads["main"] is None:
        yield Finding("error", place, "has no main branch", "Restore it from a backup.")
        return
    yield from _refs(one, place)
    yield from _snapshots(one, place)
    broken = False
    for fault in _objects(one):
        broken = True
        where = f"{place}:{fault.path}" if fault.path else place
        yield Finding("error", where, f"{fault.text} (object {fault.oid.hex()[:12]})", "Restore it from a backup.")
    for finding in _stored(one, place):
        broken = broken or finding.severity == "error"
        yield finding
    if broken:
        return  # what follows would only say the same in other words
    sound.append(one)
    try:
        yield from _documents(one, place, policy)
        if os.path.isdir(one.repository.git):
            yield from _checkout(one, place, running)
    except (GitstoreError, OSError) as error:
        yield Finding("error", place, f"cannot be read: {error}")


def _refs(one: Standing, place: str) -> Iterator[Finding]:
    git = one.repository.git
    if not os.path.isdir(git):
        return  # not published yet
    on_disk = one.repository.belongs_to()
    if on_disk != one.id:
        yield Finding("error", f"{place}/.git/gitstore/id", f"says {on_disk}, but the workspace is {one.id}")
    try:
        document_id = one.context().fields.id
        if document_id and document_id != one.id:
            yield Finding("error", f"{place}/workspace.yaml", f"has the id {document_id}; the store knows {one.id}")
    except GitstoreError:
        pass  # said by the objects
    for branch in BRANCHES:
        try:
            head, kept = refs.read(git, refs.HEADS[branch]), refs.read(git, refs.KEPT[branch])
        except (Damaged, ValueError) as error:
            yield Finding("error", place, f"a ref cannot be read: {error}", "Restore it from a backup.")
            continue
        if head == kept or head == one.heads[branch] or refs.read(git, refs.SHOWN[branch]) == head:
            continue
        if head is not None and not _is_commit(one, head):
            message = f"{refs.HEADS[branch]} names {head.hex()}, an object that is no commit here"
            yield Finding("error", place, message, f"git update-ref {refs.HEADS[branch]} {one.head(branch)}")
        elif not one.waiting:
            said = head.hex()[:12] if head is not None else "nothing"
            message = f"{refs.HEADS[branch]} is at {said}, moved by somebody's git; the store is at {one.head(branch)}"
            yield Finding("warning", place, message, "The server takes it in, or puts it back.")


def _snapshots(one: Standing, place: str) -> Iterator[Finding]:
    git = one.repository.git
    for name, oid in sorted(tags.marked(git).items()):
        try:
            tags.read(one.repository.database, oid)
        except (GitstoreError, ValueError) as error:
            yield Finding("error", place, f"the snapshot {name} cannot be read: {error}", "Restore it from a backup.")
            continue
        try:
            moved = refs.read(git, f"{tags.TAGS}/{name}") != oid
        except Damaged:
            moved = True
        if moved:
            message = f"the tag {name} is not where the snapshot is: somebody's git moved or deleted it"
            yield Finding("warning", place, message, "The next start puts it back.")


def _is_commit(one: Standing, oid: Oid) -> bool:
    try:
        one.repository.commit(oid)
    except (GitstoreError, ValueError):
        return False
    return True


def _objects(one: Standing) -> Iterator[check.Fault]:
    """What is missing or wrong of everything the branches reach, and of what the refs on disk reach."""
    tips = {head for head in one.heads.values() if head is not None}
    git = one.repository.git
    for ref in (*refs.HEADS.values(), *refs.KEPT.values()):
        try:
            found = refs.read(git, ref)
        except (Damaged, ValueError):
            continue  # said by _refs
        if found is not None and _is_commit(one, found):
            tips.add(found)
    yield from check.walk(one, sorted(tips))


def _stored(one: Standing, place: str) -> Iterator[Finding]:
    """Packs and loose objects as files: also those that nothing reaches, or that stand twice."""
    objects = one.repository.database.objects
    hint = "Restore it from a backup; `git fsck` says more."
    try:
        packs = sorted(name for name in os.listdir(f"{objects}/pack") if name.endswith((".pack", ".idx")))
    except FileNotFoundError:
        packs = []
    for stem in sorted({name.rsplit(".", 1)[0] for name in packs}):
        if not checksum_holds(f"{objects}/pack/{stem}"):
            there = [suffix for suffix in (".pack", ".idx") if os.path.exists(f"{objects}/pack/{stem}{suffix}")]
            if there == [".pack"]:
                yield Finding("warning", f"{place}/.git/objects/pack/{stem}", "has no index; nothing reads it")
            elif there:
                text = "is damaged: the checksum of the pack or its index does not hold"
                yield Finding("error", f"{place}/.git/objects/pack/{stem}", text, hint)
    for folder in sorted(name for name in _listed(objects) if len(name) == 2):
        for name in sorted(_listed(f"{objects}/{folder}")):
            if len(name) == 38 and (fault := _loose(f"{objects}/{folder}/{name}", folder + name)) is not None:
                yield Finding("error", f"{place}/.git/objects/{folder}/{name}", fault, hint)


def _large(one: Standing, checked: dict[tuple[int, int], bool]) -> Iterator[Finding]:
    """Large objects: each against its digest, and those that a branch points to and that are not here.

    `checked` tells of files, by device and inode, whether they are what they say: workspaces share them.
    """
    objects, place = one.repository.objects, f"workspaces/{one.folder}"
    for oid in objects.oids():
        try:
            state = os.stat(objects.path(oid))
            file = (state.st_dev, state.st_ino)
            if file not in checked:
                checked[file] = _whole(objects, Pointer(oid, state.st_size))
        except (OSError, NotFound):
            continue  # reclaimed meanwhile
        if not checked[file]:
            where = f"{place}/.git/lfs/objects/{oid[:2]}/{oid[2:4]}/{oid}"
            yield Finding("error", where, "is a damaged large object: its content does not have its digest", _AGAIN)
    for branch, head in one.heads.items():
        try:
            for path, pointer in one.repository.pointers(head) if head is not None else ():
                if not objects.has(*pointer):
                    text = f"the large object {pointer.oid} ({pointer.size} bytes) is missing"
                    inside = shown(path if branch == "main" else f"evidence/{path}")
                    yield Finding("error", f"{place}:{inside}", text, _AGAIN)
        except GitstoreError:
            return  # said by the objects


def _whole(objects: Objects, pointer: Pointer) -> bool:
    try:
        for _ in objects.chunks(pointer):
            pass
    except Damaged:
        return False
    return True


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _loose(path: str, name: str) -> str | None:
    try:
        data = zlib.decompress(Path(path).read_bytes())
        head, _, body = data.partition(b"\0")
        kind = next(kind for kind, text in NAMES.items() if head.split(b" ")[0] == text)
        if identify(kind, body).hex() == name and head == b"%s %d" % (NAMES[kind], len(body)):
            return None
    except FileNotFoundError:
        return None  # packed meanwhile
    except (zlib.error, StopIteration):
        pass  # said below
    return "is a damaged object: its content does not have its id"


def _documents(one: Standing, place: str, policy: Policy) -> Iterator[Finding]:
    for fault in (
        *main_faults(one.tree("main"), policy, 0),
        *evidence_faults(one.id, one.tree("evidence"), policy, 0),
    ):
        where = ":".join(str(part) for part in (fault.path, fault.line, fault.column) if part is not None)
        yield Finding("error", f"{place}:{where}", fault.message, fault.hint)


def _checkout(one: Standing, place: str, running: bool) -> Iterator[Finding]:
    """HEAD, index and files against the branch. A person may do with them as they like: that is a warning at most."""
    git = one.repository.git
    if not os.path.exists(f"{git}/HEAD"):
        yield Finding("error", f"{place}/.git/HEAD", "is missing", "printf 'ref: refs/heads/main\\n' > .git/HEAD")
        return
    if refs.checked_out(git) != refs.MAIN:
        yield Finding("warning", place, "another branch than main is checked out", "git switch main")
        return
    if refs.under_way(git):
        yield Finding("warning", place, "a merge or the like is under way; the checkout waits for its end")
        return
    for _ in range(3):
        before = refs.read(git, refs.MAIN)
        found = list(_index(one, place, before))
        if refs.read(git, refs.MAIN) == before and not (running and found):
            break
        time.sleep(0.2)  # the server was just publishing
    for finding in found:
        soft = running and finding.severity == "error" and "damaged" not in finding.message
        yield msgspec.structs.replace(finding, severity="warning") if soft else finding


def _index(one: Standing, place: str, head: Oid | None) -> Iterator[Finding]:
    git = one.repository.git
    mend = f"git -C {one.repository.root} reset"
    try:
        index = Index.read(git)
    except IndexForeign as error:
        text = f"has a feature this release does not write ({error}); the checkout stays behind"
        yield Finding("warning", f"{place}/.git/index", text, "git update-index --no-split-index")
        return
    if index.changed:
        yield Finding("error", f"{place}/.git/index", "is damaged: its checksum does not hold", mend)
        return
    tree = one.repository.tree(head)
    files = {path: node for path, node in tree.walk() if regular(node)}
    listed = {decode_path(raw): index.get(raw) for raw in index.paths()}
    staged = sorted(path for path in files.keys() | listed.keys() if listed.get(path) != _id(files, path))
    if staged and not listed:
        yield Finding("error", f"{place}/.git/index", "is missing or empty, as if every file were deleted", mend)
        return
    if staged:
        yield Finding("warning", place, f"changes are staged but not committed: {_some(staged)}", "git commit")
    changed = sorted(path for path, oid in listed.items() if not _same(one, path, oid, index))
    if changed:
        yield Finding("warning", place, f"files differ from what is committed: {_some(changed)}", "git status")


def _id(files: Mapping[str, Node], path: str) -> Oid | None:
    node = files.get(path)
    return node.id if node is not None else None


def _same(one: Standing, path: str, oid: Oid | None, index: Index) -> bool:
    root = one.repository.root
    full = f"{root}/{path}"
    try:
        state = os.lstat(full)
        if not stat.S_ISREG(state.st_mode):
            return False
        if index.unchanged(path.encode("utf-8", "surrogateescape"), state):
            return True
        *folders, name = path.split("/")
        folder = Disk().folder(root, folders)
        if folder is None or oid is None:
            return False
        with folder:
            return measure(folder, name).is_blob(one.repository.database, oid)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(shown(path) for path in paths[:3]) + more
