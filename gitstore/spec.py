"""The spec: five documents that are replaced together; every change of any of them is a new version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gitstore import names, parsed, rules, schemas, values
from gitstore.documents import DocumentError
from gitstore.errors import Invalid, Malformed
from gitstore.model import Touch
from gitstore.precondition import NONE, Precondition
from gitstore.repository.trees import TreeView
from gitstore.rules import SPEC_PARTS

if TYPE_CHECKING:
    from gitstore.changes import Draft


def put(draft: Draft, body: Mapping[str, Any], *, precondition: Precondition = NONE) -> bool:
    """Replaces the whole spec by the parts in `body` (keys other than the five are ignored); whether anything changed.

    A change is version `draft.spec_version + 1`. Raises PreconditionFailed (against `etag`), Invalid, SecretFound,
    Malformed.
    """
    context = draft.context
    # Version 0 can be asked for, and yet there is nothing: `If-None-Match: *` creates the first version.
    create = not draft.spec_version and precondition.if_match is None
    precondition.check(None if create else etag(draft.spec_version, context.spec))
    wanted = {part: body[part] for part in SPEC_PARTS if part in body}
    check(wanted)
    rules.no_secret(wanted, "spec", context.policy)
    broken = {problem.path for problem in context.faults.get("spec", ())}
    changed = False
    for part in SPEC_PARTS:
        path = f"spec/{part}.yaml"
        if part not in wanted:
            if draft.blob(path) is not None:
                draft.remove(path)
                changed = True
            continue
        old = context.spec.get(part)
        if old is not None and path not in broken and values.encode(old) == values.encode(wanted[part]):
            continue
        draft.write(path, parsed.rewritten(draft.read(path), wanted[part], schemas.head(draft, path)))
        changed = True
    if changed:
        draft.describe("spec.updated", names.one_line(f"spec: version {draft.spec_version + 1}"))
    return changed


def restore(draft: Draft, number: int, then: TreeView, *, precondition: Precondition = NONE) -> bool:
    """Makes the spec what it was in version `number`, whose files `then` has, byte for byte; whether anything changed.

    A change is the next version. Raises as `put` does, against the rules of today; Invalid also where a part of that
    version could not be read.
    """
    precondition.check(etag(draft.spec_version, draft.context.spec))
    wanted = read(then)
    check(wanted)
    rules.no_secret(wanted, "spec", draft.context.policy)
    changed = False
    for part in SPEC_PARTS:
        path = f"spec/{part}.yaml"
        data = then.read(path)
        if data is not None and part not in wanted:
            raise Invalid(
                f"version {number} cannot be restored: `{path}` could not be read then", details={"path": path}
            )
        if data == draft.read(path):
            continue
        if data is not None:
            draft.write(path, data)
        else:
            draft.remove(path)
        changed = True
    if changed:
        draft.describe("restore", names.one_line(f"spec: restore version {number} as version {draft.spec_version + 1}"))
    return changed


def read(tree: TreeView) -> dict[str, dict[str, Any]]:
    """The spec as a commit has it; a part that cannot be read is left out."""
    found = {}
    for part in SPEC_PARTS:
        path = f"spec/{part}.yaml"
        blob, data = tree.blob(path), tree.read(path)
        if blob is None or data is None:
            continue
        try:
            value = parsed.parse(blob, data, path).value
        except (DocumentError, Malformed):
            continue  # it was a problem then, and the current version is not held up by it
        if value is None:
            value = {}  # a file that says nothing
        if isinstance(value, dict):
            found[part] = value
    return found


def check(spec: Mapping[str, Any]) -> None:
    """Holds the parts of a spec to their rules; `secret:` references may stand anywhere. Raises Invalid, Malformed."""
    values.check(dict(spec))
    for part, value in spec.items():
        rules.spec_part(part, value, f"/{part}")


def etag(version: int, spec: Mapping[str, Any]) -> str:
    """The ETag of one version of the spec."""
    return values.etag(b"spec\0%d\0%b" % (version, values.encode(dict(spec))))


def answer(workspace: str, version: int, spec: Mapping[str, Any], touch: Touch | None) -> dict[str, Any]:
    """`{workspace_id, version, spec, created_at, created_by_type, created_by_id, commit}`; `touch` made the version.

    Version 0 is "no spec yet": an empty spec, and null for the rest.
    """
    made = touch if version else None
    return {
        "workspace_id": workspace,
        "version": version,
        "spec": dict(spec) if version else {},
        "created_at": values.iso(made.time) if made else None,
        "created_by_type": made.actor.type if made else None,
        "created_by_id": made.actor.id if made else None,
        "commit": made.commit if made else None,
    }


def resources(spec: Mapping[str, Any], kind: str | None = None) -> list[dict[str, Any]]:
    """`[{logical_name, type, binding, notes?}]` in the document's order; only those of a type if `kind` is given."""
    return [
        {
            "logical_name": name,
            "type": entry["type"],
            "binding": entry["binding"],
            **({"notes": entry["notes"]} if isinstance(entry.get("notes"), str) else {}),
        }
        for name, entry in spec.get("resources", {}).items()
        if not kind or entry["type"] == kind
    ]


def tools(spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """`{available, blocked}`: the names in each list, once, in order; anything else in them is passed over."""
    part = spec.get("tools", {})
    return {name: _names(part.get(name)) for name in ("available", "blocked")}


def _names(listed: object) -> list[str]:
    if not isinstance(listed, list):
        return []
    return list(dict.fromkeys(name for name in listed if isinstance(name, str) and name.strip()))
