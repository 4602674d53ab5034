"""A pinned artifact never expires in the explorer's columns, however it came into them."""

from __future__ import annotations

import pytest
from msgspec.structs import astuple

from gitstore.explorer.columns import NEVER, Columns
from gitstore.model import Workflow
from gitstore.rows import ArtifactRow, artifact_columns

FLOW = Workflow(id="w", name="w", state="completed", metadata={"artifact_retention": {"mode": "ephemeral"}})


def row(id_: str, pinned: bool) -> ArtifactRow:
    return ArtifactRow(id_, f"{id_}.txt", "text/plain", 1, 5, "w", None, None, None, None, None, pinned)


@pytest.mark.parametrize("at_once", [True, False])
def test_pinned_rows(at_once: bool) -> None:
    rows = [row("a", True), row("b", False)]
    columns = Columns([FLOW], [], artifact_columns([astuple(one) for one in rows]) if at_once else None)
    for one in rows if not at_once else ():
        columns.put(one)
    assert [int(one) == NEVER for one in columns.expires] == [True, False]
    columns.put(row("a", False))
    columns.put(row("b", True))
    assert [int(one) == NEVER for one in columns.expires] == [False, True]
