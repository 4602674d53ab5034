"""How commands speak: results on standard output, progress and errors on standard error, an exit code for scripts."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec

from gitstore.errors import Damaged, GitstoreError, StorageFailed, StoreBusy
from server import config

FAILED, USAGE, BUSY = 1, 2, 3
CODES = """\b
Exit codes:
  0  done, and everything is as it should be
  1  failed; what was wrong, where, and how to mend it is on standard error
  2  the command line or a setting is wrong
  3  another process has the store open (a running server)"""

Function = TypeVar("Function", bound=Callable[..., Any])
_AFTER = 1.0  # seconds before the first word of progress
_EVERY = 2.0  # seconds between two lines, where lines cannot be written over


class Place:
    """What every command is told: the settings in force and whether to answer in JSON."""

    def __init__(self, data: Path | None, file: Path | None, as_json: bool, **flags: Any) -> None:
        self.settings = config.load({"data": data, **flags}, file=file)
        self.data = self.settings.data
        self.json = as_json
        self.progress = Progress()

    def answer(self, value: Any, text: str | None = None) -> None:
        """The result: `value` as JSON if asked for, else `text` (nothing if it is empty)."""
        self.progress.end()
        if self.json:
            click.echo(msgspec.json.format(msgspec.json.encode(value)))
        elif text:
            click.echo(text)

    def note(self, text: str) -> None:
        """A remark beside the result."""
        self.progress.end()
        click.echo(text, err=True)


class Progress:
    """Says on standard error how far something is, once it takes longer than a second."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._width = 0

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Told as often as one likes."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self._began < _AFTER or now - self._said < (0.1 if terminal else _EVERY):
            return
        self._said = now
        count = f": {done:,} of {total:,}" if total else f": {done:,}" if done else ""
        line = f"{what}{count} ({now - self._began:.0f} s)"
        if terminal:
            click.echo(f"\r{line:<{self._width}}", err=True, nl=False)
            self._width = len(line)
        else:
            click.echo(line, err=True)

    def end(self) -> None:
        """Clears the line that is being written over."""
        if self._width:
            click.echo(f"\r{'':<{self._width}}\r", err=True, nl=False)
            self._width = 0


def command(group: click.Group, name: str, *, alone: bool = False, **flags: Any) -> Callable[[Function], click.Command]:
    """Makes a command whose function takes a Place first. `alone`: it needs the store for itself.

    `flags` maps parameters that are settings to themselves: they are given to the configuration, not the function.
    """

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(data: Path | None, settings_file: Path | None, as_json: bool, **given: Any) -> None:
            try:
                settings = {key: given.pop(key) for key in flags}
                function(Place(data, settings_file, as_json, **settings), **given)
            except config.SettingsError as error:
                raise click.UsageError(str(error)) from None
            except GitstoreError as error:
                fail(error, as_json)
            except OSError as error:
                where = f" {error.filename}:" if error.filename else ""
                fail(StorageFailed(f"the system refused:{where} {error.strerror or error}"), as_json)

        needs = "Needs the store for itself: stop the server first." if alone else "Works beside a running server."
        about = inspect.cleandoc(function.__doc__ or "")
        run.__doc__ = about if name == "serve" else f"{about}\n\n{needs}"
        made = group.command(name, epilog=CODES)(run)
        made.params += [
            click.Option(["--data"], type=click.Path(path_type=Path), help="The data folder.  [default: data]"),
            click.Option(["--config", "settings_file"], type=click.Path(path_type=Path), help="The settings file."),
            click.Option(["--json", "as_json"], is_flag=True, help="Answer in JSON, errors too."),
        ]
        return made

    return decorate


def fail(error: GitstoreError, as_json: bool) -> NoReturn:
    """Says what was wrong, where, and how to mend it, then ends the process."""
    click.echo(f"gitstore: {error.message}", err=True)
    if isinstance(error, Damaged) and "verify" not in error.message:
        click.echo("  `gitstore verify` shows all that is wrong; a backup can be brought back with restore.", err=True)
    elif isinstance(error, StorageFailed):
        click.echo("  Look at the space left on the disk, and at the owner and mode of the folder.", err=True)
    if as_json:
        click.echo(msgspec.json.encode({"error": told(error)}))
    sys.exit(BUSY if isinstance(error, StoreBusy) else FAILED)


def told(error: GitstoreError) -> dict[str, Any]:
    """An error as JSON."""
    return {"code": error.code, "message": error.message, "details": error.details or {}}
