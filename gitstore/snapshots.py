"""Snapshots: named states of both branches, as annotated tags that no push moves or deletes, usable in every `at`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from gitstore import facts, names, rules, values
from gitstore.errors import Conflict, Damaged, NotFound, StorageFailed, Unavailable
from gitstore.model import Actor, Provenance
from gitstore.moments import EVIDENCE, Moment, evidence_of, resolve
from gitstore.precondition import NONE, Precondition
from gitstore.repository import refs, tags
from gitstore.repository.commits import Signature
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.repository.tags import Tag
from gitstore.store import Store
from gitstore.transport.fetch import publish

MESSAGE_MAX = 2000
T = TypeVar("T")
_PATIENCE = 5.0  # seconds that somebody's git may hold the lock of a ref


class Named(msgspec.Struct, frozen=True):
    """One snapshot: the commit of each branch that it names, and who made it when (ms). `tag` is its object in git."""

    name: str
    commit: str
    evidence: str | None
    message: str | None
    created_at: int
    created_by: Actor
    tag: str

    @property
    def etag(self) -> str:
        """The ETag of the snapshot."""
        return values.etag(f"snapshot\0{self.tag}".encode())


def contents(store: Store, reference: str) -> list[Named]:
    """The snapshots of a workspace, the newest first. Raises NotFound, Damaged."""
    repository = store.load(reference).repository
    found = []
    for name, oid in tags.marked(repository.git).items():
        try:
            found.append(_read(repository, name, oid))
        except Damaged:
            continue  # `gitstore verify` tells of it
    return sorted(found, key=lambda one: (-one.created_at, one.name))


def find(store: Store, reference: str, name: str) -> Named:
    """One snapshot. Raises NotFound, Damaged."""
    repository = store.load(reference).repository
    oid = tags.mark(repository.git, name)
    if oid is None:
        raise NotFound(f"the workspace has no snapshot `{names.one_line(name, 80)}`")
    return _read(repository, name, oid)


def put(
    store: Store,
    reference: str,
    name: str,
    *,
    at: str | None = None,
    message: str | None = None,
    who: Provenance,
    precondition: Precondition = NONE,
) -> Named:
    """Names the state at a moment (now by default), durably. One that is there as asked is left as it is.

    One that is there and names another state is moved only if `precondition` says from where. Raises Invalid for a name
    that cannot be one, SecretFound, NotFound, PreconditionFailed, Conflict where the name is taken, StorageFailed,
    Unavailable.
    """
    names.check_snapshot(name)
    text = _message(store, message)
    moment = resolve(store, store.load(reference), at or "now")
    if moment.main is None:
        raise NotFound(f"at `{names.one_line(moment.asked, 80)}` the workspace had no context yet")
    workspace = publish(store, reference)  # so that what is named is on disk
    repository = workspace.repository
    with workspace.publishing:
        old = tags.mark(repository.git, name)
        known = _read(repository, name, old) if old is not None else None
        precondition.check(known.etag if known is not None else None)
        if known is not None:
            if (known.commit, known.evidence) == (moment.main, moment.evidence) and (
                message is None or text == known.message
            ):
                _again(lambda: tags.show(store.disk, repository, name, Oid(bytes.fromhex(known.tag))))
                return known
            if precondition.if_match is None:
                raise Conflict(
                    f"there is a snapshot `{name}` already, of {known.commit[:12]}: choose another name, delete it "
                    "first, or move it with If-Match",
                    details={"name": name, "commit": known.commit, "evidence": known.evidence},
                )
        else:
            _free(repository, name)
        tag = _tag(name, moment, text, who)
        made = _again(lambda: tags.put(store.disk, repository, tag, old))
        store.publisher.watch(workspace, tags.build(tag))
        return _read(repository, name, made)


def delete(store: Store, reference: str, name: str, *, precondition: Precondition = NONE) -> None:
    """Takes a name away, durably; the commits stay. Raises NotFound, PreconditionFailed, StorageFailed, Unavailable."""
    workspace = publish(store, reference)
    repository = workspace.repository
    with workspace.publishing:
        old = tags.mark(repository.git, name)
        if old is None:
            precondition.check(None)
            raise NotFound(f"the workspace has no snapshot `{names.one_line(name, 80)}`")
        if precondition != NONE:
            precondition.check(_read(repository, name, old).etag)
        _again(lambda: tags.delete(store.disk, repository, name, old))


def _message(store: Store, message: str | None) -> str | None:
    if message is None:
        return None
    text = rules.text(message, "/message", high=MESSAGE_MAX)
    rules.no_secret({"message": text}, "snapshot", store.options.secrets)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() or None


def _tag(name: str, moment: Moment, message: str | None, who: Provenance) -> Tag:
    now = int(time.time() * 1000)
    more = {EVIDENCE.removeprefix("Gitstore-"): moment.evidence} if moment.evidence is not None else {}
    trailers = facts.message("snapshot", name, "completed", now, who, more=more).partition("\n\n")[2]
    text = f"{message or _unsaid(name)}\n\n{trailers}"
    return Tag(Oid(bytes.fromhex(moment.main or "")), name, Signature(*facts.author(who.actor), now // 1000), text)


def _unsaid(name: str) -> str:
    """What a tag says whose maker said nothing."""
    return f"snapshot: {name}"


def _read(repository: Repository, name: str, oid: Oid) -> Named:
    tag = tags.read(repository.database, oid)
    said = tag.trailers
    stamp = said.get("Gitstore-Time", "")
    return Named(
        name=name,
        commit=tag.commit.hex(),
        evidence=evidence_of(tag),
        message=tag.text if tag.text != _unsaid(name) else None,
        created_at=int(stamp) if stamp.isdecimal() and len(stamp) < 16 else tag.tagger.time * 1000,
        created_by=facts.actor(said.get("Gitstore-Actor", ""), tag.tagger),
        tag=oid.hex(),
    )


def _free(repository: Repository, name: str) -> None:
    """Raises Conflict where a tag has this name, in any case, or stands below it."""
    for ref in tags.shown(repository.git):
        if not ref.startswith(f"{tags.TAGS}/"):
            continue
        other = ref.removeprefix(f"{tags.TAGS}/")
        if names.fold(other) == names.fold(name):
            why = "there is a tag of this name already" if other == name else f"it differs from `{other}` only in case"
        elif names.fold(other).startswith(f"{names.fold(name)}/"):
            why = f"the tag `{other}` is in the way"
        else:
            continue
        raise Conflict(f"`{name}` cannot be the name of a new snapshot: {why}", details={"name": name, "tag": other})


def _again(step: Callable[[], T]) -> T:
    """What a step gives, once no git holds the locks it needs. Raises Conflict, StorageFailed, Unavailable."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return step()
        except refs.RefLocked:
            if time.monotonic() > until:
                raise Unavailable("somebody's git holds a lock in the workspace's folder; try again") from None
            time.sleep(0.02)
        except refs.RefMoved:
            raise Conflict("somebody's git moved the tag at the same time; look, then try again") from None
        except OSError as error:
            raise StorageFailed(f"the snapshot cannot be written: {error.strerror or error}") from error
