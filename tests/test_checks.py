"""What `make check` says of the code: its style, its types, and which layer may import which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(300)  # mypy, its cache empty, on a machine that runs the other tests too
@pytest.mark.parametrize(
    "words", [["mypy"], ["lint-imports"], ["ruff", "check", "."], ["ruff", "format", "--check", "."]], ids=" ".join
)
def test_the_code_passes(words: list[str]) -> None:
    tool, *rest = words
    command = [Path(sys.executable).with_name(tool), *rest]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
