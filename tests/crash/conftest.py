"""Where the tests of crashes write: on a disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_PASSED] = item.stash.get(_PASSED, True) and report.passed
    return report


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """As pytest's own, but below the system's folder for such files; what a failed test wrote stays there."""
    folder = Path(tempfile.mkdtemp(prefix=f"{request.node.name[:30].replace('/', '-')}-"))
    print(folder)
    yield folder
    if request.node.stash.get(_PASSED, False):
        shutil.rmtree(folder)
