"""The artifacts of one workspace as columns: what the explorer filters, sorts and counts without looking at each.

Kept up with the catalog record by record. A row keeps its number for ever; what was removed is dead.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gitstore import retention, showing
from gitstore.explorer.categories import Category
from gitstore.explorer.joined import Context, folded
from gitstore.explorer.paths import Paths
from gitstore.model import Task, Workflow
from gitstore.query import Sort
from gitstore.rows import ArtifactRow
from gitstore.search.words import fold

NEVER: Final = np.iinfo(np.int64).max
_SPARSE: Final = 8  # one row in so many, from where on those are sorted instead of all gone through
_MANY: Final = 1000  # new rows from where on an order is made anew
_PARTS: Final = ("flow", "item", "task", "stage", "role", "type")
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
Own = tuple[str | None, str | None, str | None, str | None, str | None]


class _Grown:
    """An array with room at its end."""

    def __init__(self, kind: Any) -> None:
        self._data: npt.NDArray[Any] = np.zeros(256, kind)
        self.size = 0

    def add(self, value: Any) -> None:
        if self.size == len(self._data):
            self._data = np.concatenate((self._data, np.zeros_like(self._data)))
        self._data[self.size] = value
        self.size += 1

    def extend(self, values: Any) -> None:
        made = np.asarray(values, self._data.dtype)
        self._data = np.concatenate((self._data[: self.size], made, np.zeros(256, self._data.dtype)))
        self.size += len(made)

    @property
    def view(self) -> Any:
        return self._data[: self.size]


class Columns:
    """One workspace. `version` counts up with every change, `grown` with every new row.

    `columns` are those of its artifacts, as `rows.artifact_columns` makes them.
    """

    def __init__(
        self, workflows: Iterable[Workflow], tasks: Iterable[Task], columns: Sequence[list[Any]] | None = None
    ) -> None:
        self.version = 0
        self.grown = 0
        self.context = Context()
        for workflow in workflows:
            self.context.add(workflow)
        self.context.tasks = {task.id: task for task in tasks}
        self.flows: Category[str] = Category(self._tell_flow)
        self.items: Category[tuple[str, str]] = Category(self._tell_item)
        self.tasks: Category[str] = Category(self._tell_task)
        self.stages: Category[str] = Category(lambda name: (name, ((6, name),)))
        self.roles: Category[str] = Category(lambda name: (name, ((7, name),)))
        self.types: Category[str] = Category(lambda name: (name, ((8, name),)))
        self.numbers: dict[str, int] = {}
        self.ids: list[str] = []
        self.paths = Paths()
        self.dead = 0
        self._names: list[str] = []
        self._owns: list[Own] = []
        self._shared: dict[Own, Own] = {}
        self._joined: dict[Own, tuple[int, int, int, int, int]] = {}
        self._columns = {name: _Grown(np.int32) for name in _PARTS}
        self._created, self._size, self._expires = (_Grown(np.int64) for _ in range(3))
        self._live, self._eligible, self._pinned = (_Grown(np.bool_) for _ in range(3))
        self._orders: dict[Sort, npt.NDArray[np.int32]] = {}
        self._ranks: dict[Sort, tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]] = {}
        self._soonest = (-1, NEVER)
        self.grown = 0
        if columns is not None:
            self._take(*columns)

    def _take(
        self,
        ids: list[str],
        paths: list[str],
        types: list[str],
        sizes: list[int],
        created: list[int],
        flows: list[str | None],
        tasks: list[str | None],
        items: list[str | None],
        stages: list[str | None],
        roles: list[str | None],
        _expires: list[int | None],
        pinned: list[bool],
    ) -> None:
        """The first rows, all at once."""
        self.grown = len(ids)
        self.ids = ids
        self.numbers = {id_: number for number, id_ in enumerate(ids)}
        for path in paths:
            self.paths.add(fold(path), path)
        self._names = [_name(path) for path in paths]
        shared = self._shared
        self._owns = [shared.setdefault(own, own) for own in zip(tasks, flows, items, stages, roles, strict=True)]
        self._joined = {own: self._codes(own) for own in shared}
        joined = np.array([self._joined[own] for own in self._owns], np.int32).reshape(-1, 5)
        for place, name in enumerate(_PARTS[:5]):
            self._columns[name].extend(joined[:, place])
        codes = {name: self.types.code(name) for name in dict.fromkeys(types)}
        self._columns["type"].extend([codes[name] for name in types])
        self._created.extend(created)
        self._size.extend(sizes)
        self._live.extend(np.ones(len(ids), np.bool_))
        shown = {name: showing.preview_mode(name) != "unsupported" for name in codes}
        self._eligible.extend(np.array([shown[name] for name in types], np.bool_) & (self.size <= showing.PREVIEW_MAX))
        self._pinned.extend(pinned)
        self._expires.extend(np.full(len(ids), NEVER))
        for flow in self.context.workflows.values():
            code = self.flows.codes.get(flow.id)
            if code is not None and retention.of(0, flow)[1] is not None:
                for number in np.flatnonzero(self.column("flow") == code).tolist():
                    self._join(number)

    # -- what the records say -------------------------------------------------------------------------------------

    def _tell_flow(self, key: str) -> tuple[str, tuple[tuple[int, str], ...]]:
        flow = self.context.workflows.get(key)
        return (key, ((0, key),)) if flow is None else (flow.name, ((0, flow.name), (3, flow.state)))

    def _tell_item(self, key: tuple[str, str]) -> tuple[str, tuple[tuple[int, str], ...]]:
        item = self.context.item(key[1], key[0])
        return (key[0], ((1, key[0]),)) if item is None else (item.title, ((1, item.title), (4, item.state)))

    def _tell_task(self, key: str) -> tuple[str, tuple[tuple[int, str], ...]]:
        task = self.context.tasks.get(key)
        return (key, ((2, key), (5, "unknown"))) if task is None else (task.title, ((2, task.title), (5, task.state)))

    # -- columns --------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many rows, dead ones included."""
        return len(self.ids)

    def column(self, name: str) -> npt.NDArray[np.int32]:
        """The numbers of a category's values (`flow`, `item`, `task`, `stage`, `role`, `type`)."""
        found: npt.NDArray[np.int32] = self._columns[name].view
        return found

    @property
    def created(self) -> Numbers:
        """When the artifacts were made, in ms."""
        found: Numbers = self._created.view
        return found

    @property
    def size(self) -> Numbers:
        """Their sizes, in bytes."""
        found: Numbers = self._size.view
        return found

    @property
    def expires(self) -> Numbers:
        """When they expire, in ms; NEVER if they do not."""
        found: Numbers = self._expires.view
        return found

    @property
    def live(self) -> Mask:
        """Which rows there are."""
        found: Mask = self._live.view
        return found

    @property
    def eligible(self) -> Mask:
        """Which can be looked at in the browser."""
        found: Mask = self._eligible.view
        return found

    # -- changes --------------------------------------------------------------------------------------------------

    def put(self, row: ArtifactRow) -> None:
        """An artifact that is new, or not as it was."""
        self.version += 1
        number = self.numbers.get(row.id)
        if number is None:
            self._add(row)
            return
        if not self._live.view[number]:
            self._live.view[number] = True
            self.dead -= 1
        name = _name(row.path)
        same = folded(row.path) == self.paths.text(number).replace("\0", "\n") and self._names[number] == name
        if not same or self.created[number] != row.created_at or self.size[number] != row.size:
            self._orders.clear()
            self._names[number] = name
            if not same:
                self._repath(number, row.path)
        self._set(number, row)

    def _repath(self, number: int, path: str) -> None:
        self.paths.replace(number, folded(path), path)

    def _add(self, row: ArtifactRow) -> None:
        number = len(self.ids)
        self.grown += 1
        self.ids.append(row.id)
        self.numbers[row.id] = number
        self.paths.add(folded(row.path), row.path)
        self._names.append(_name(row.path))
        self._owns.append((None,) * 5)
        numbers = (self._created, self._size, self._expires, self._live, self._eligible, self._pinned)
        for column in (*self._columns.values(), *numbers):
            column.add(0)
        self._live.view[number] = True
        self._set(number, row)

    def _set(self, number: int, row: ArtifactRow) -> None:
        own, old = _own(row), self._owns[number]
        if old != own:
            self._joined.pop(old, None)  # with its last row goes what tells that it has to be joined again
        self._owns[number] = self._shared.setdefault(own, own)
        self._created.view[number] = row.created_at
        self._size.view[number] = row.size
        self._eligible.view[number] = showing.preview_eligible(row.content_type, row.size)
        self._pinned.view[number] = row.pinned
        self._columns["type"].view[number] = self.types.code(row.content_type)
        self._join(number)

    def _join(self, number: int) -> None:
        own = self._owns[number]
        codes = self._joined.get(own)
        if codes is None:
            codes = self._joined[own] = self._codes(own)
        for name, code in zip(_PARTS, codes, strict=False):
            self._columns[name].view[number] = code
        flow = self.context.workflows.get(self.flows.keys[codes[0]] or "") if codes[0] else None
        expires = None
        if flow is not None and not self._pinned.view[number]:
            expires = retention.of(int(self._created.view[number]), flow)[1]
        self._expires.view[number] = NEVER if expires is None else expires

    def _codes(self, own: Own) -> tuple[int, int, int, int, int]:
        task_id, workflow_id, item_id, stage, role = own
        task = self.context.tasks.get(task_id) if task_id is not None else None
        flow_id = workflow_id or (task.workflow_id if task is not None else None)
        in_item = item_id or (task.work_item_id if task is not None else None)
        item = self.context.item(flow_id, in_item)
        named = stage or (task and task.stage_name) or (item and item.stage_name) or None
        return (
            self.flows.code(flow_id),
            self.items.code((in_item, flow_id or "")) if in_item is not None else 0,
            self.tasks.code(task_id),
            self.stages.code(named),
            self.roles.code(role or (task.role if task is not None else None)),
        )

    def remove(self, id_: str) -> None:
        """An artifact is there no more."""
        number = self.numbers.get(id_)
        if number is not None and self._live.view[number]:
            self.version += 1
            self._live.view[number] = False
            self.dead += 1

    def set_workflow(self, id_: str, workflow: Workflow | None) -> None:
        """A workflow is not as it was."""
        self.version += 1
        old = self.context.drop(id_)
        if workflow is not None:
            self.context.add(workflow)
        self.flows.refresh(id_)
        changed = {item.id for flow in (old, workflow) if flow is not None for item in flow.work_items}
        for item in changed:
            self.items.refresh((item, id_))
        if (code := self.flows.codes.get(id_)) is not None:
            before, after = ({i.id: i.stage_name for i in flow.work_items} if flow else {} for flow in (old, workflow))
            if before != after or _terms(old) != _terms(workflow):
                self._rejoin(np.flatnonzero(self.column("flow") == code))

    def set_task(self, id_: str, task: Task | None) -> None:
        """A task is not as it was."""
        self.version += 1
        if task is not None:
            self.context.tasks[id_] = task
        else:
            self.context.tasks.pop(id_, None)
        self.tasks.refresh(id_)
        if (code := self.tasks.codes.get(id_)) is not None:
            self._rejoin(np.flatnonzero(self.column("task") == code))

    def _rejoin(self, numbers: Numbers) -> None:
        for own in {self._owns[int(number)] for number in numbers}:
            self._joined.pop(own, None)
        for number in numbers:
            self._join(int(number))

    def soonest(self) -> int:
        """When the first of all rows expires, in ms; NEVER if none does."""
        if self._soonest[0] != self.version:
            self._soonest = self.version, int(self.expires.min()) if self.count else NEVER
        return self._soonest[1]

    # -- order ----------------------------------------------------------------------------------------------------

    def order(self, sort: Sort) -> npt.NDArray[np.int32]:
        """All rows in an order other than that of relevance; ties end with the id."""
        found = self._orders.get(sort)
        if found is None or self.count - len(found) > _MANY:
            found = self._orders[sort] = self._ordered(sort)
        elif len(found) < self.count:
            key = self._key(sort)
            new = sorted(range(len(found), self.count), key=key)
            places = [bisect.bisect_left(found, key(number), key=key) for number in new]
            found = self._orders[sort] = np.insert(found, places, np.array(new, np.int32))
        return found

    def ordered(self, mask: Mask, sort: Sort) -> Numbers:
        """The rows of a mask in an order other than that of relevance."""
        order = self.order(sort)
        rows = np.flatnonzero(mask)
        if len(rows) * _SPARSE > self.count:
            return order[mask[order]].astype(np.int64)
        known, rank = self._ranks.get(sort, (None, order))
        if known is not order:
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order), dtype=np.int32)
            self._ranks[sort] = order, rank
        found: Numbers = rows[np.argsort(rank[rows])]
        return found

    def _key(self, sort: Sort) -> Callable[[int], Any]:
        created, size, ids, names = self.created, self.size, self.ids, self._names
        keys: dict[Sort, Callable[[int], Any]] = {
            "newest": lambda number: (-created[number], ids[number]),
            "oldest": lambda number: (created[number], ids[number]),
            "largest": lambda number: (-size[number], ids[number]),
            "smallest": lambda number: (size[number], ids[number]),
            "name": lambda number: (names[number], ids[number]),
        }
        return keys[sort]

    def _ordered(self, sort: Sort) -> npt.NDArray[np.int32]:
        by_id = np.array(sorted(range(self.count), key=self.ids.__getitem__), np.int32)
        if sort == "name":
            names = self._names
            return np.array(sorted(by_id.tolist(), key=names.__getitem__), np.int32)
        column = self.size if sort in ("largest", "smallest") else self.created
        if sort in ("largest", "newest"):
            column = -column
        return by_id[np.argsort(column[by_id], kind="stable")]

    def ranked(self, rows: Numbers, scores: npt.NDArray[np.int64]) -> Numbers:
        """These rows by score, then newest first, then by id."""
        newest = np.empty(self.count, np.int64)
        newest[self.order("newest")] = np.arange(self.count)
        return rows[np.lexsort((newest[rows], -scores))]


def _terms(workflow: Workflow | None) -> object:
    """What decides when a workflow's artifacts expire."""
    if workflow is None:
        return None
    policy, first = retention.of(0, workflow)
    return policy, first


def _own(row: ArtifactRow) -> Own:
    """What an artifact says of itself."""
    return row.task_id, row.workflow_id, row.work_item_id, row.stage_name, row.role


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1].casefold()
