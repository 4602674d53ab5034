"""The command line: `gitstore …`, the same as `python -m server …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gitstore.errors import GitstoreError, StoreBusy
from server import config
from server.serve import serve as run


@click.group()
def main() -> None:
    """Workspaces as git repositories, behind one HTTP API."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path), help="The folder that holds everything.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one.")
@click.option("--public-url", help="How clients reach this server, for links.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="The settings file.")
@click.option("--print-config", is_flag=True, help="Show the settings in force and end.")
@click.option("--demo", is_flag=True, hidden=True)
def serve(file: Path | None, print_config: bool, demo: bool, **flags: Any) -> None:
    """Serve the store over HTTP until SIGTERM."""
    try:
        settings = config.load(flags, file=file)
        if print_config:
            click.echo(settings.render(), nl=False)
            return
        run(settings, lambda port, key: _greet(settings, port, key))
    except config.SettingsError as error:
        raise click.UsageError(str(error)) from None
    except GitstoreError as error:
        click.echo(f"gitstore: {error.message}", err=True)
        sys.exit(3 if isinstance(error, StoreBusy) else 1)


def _greet(settings: config.Settings, port: int, key: str | None) -> None:
    url = settings.public_url or f"http://{settings.host}:{port}"
    click.echo(f"gitstore is ready at {url}")
    if key is not None:
        click.echo(f"admin key (shown this once): {key}")
