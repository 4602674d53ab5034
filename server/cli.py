"""The command line: `gitstore …`, the same as `python -m server …`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import msgspec

from gitstore import accord, backup, exporting, importing, reclaiming, trash, values, verify
from gitstore.errors import GitstoreError, StorageFailed
from gitstore.keys import KeyRecord, Keys
from gitstore.layout import Layout
from gitstore.survey import Survey
from server import config
from server.check import check
from server.data import open_store, options
from server.driver import merge_driver
from server.terminal import CODES, FAILED, Place, command, told

PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=CODES)
@click.version_option(package_name="gitstore")
def main() -> None:
    """Workspaces as git repositories, behind one HTTP API."""


@main.group(epilog=CODES)
def key() -> None:
    """Make, list and revoke API keys; a running server notices within half a second."""


@main.group(epilog=CODES)
def workspace() -> None:
    """List workspaces; bring deleted ones back, or remove them for good."""


main.add_command(merge_driver)


# --- serve ------------------------------------------------------------------------------------------------------------


@command(main, "serve", alone=True, host=..., port=..., public_url=...)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one.  [default: 8080]")
@click.option("--public-url", help="How clients reach this server, for links.")
@click.option("--print-config", is_flag=True, help="Show the settings in force, secrets masked, and end.")
@click.option("--demo", is_flag=True, help="Make a new admin key at this start, whatever keys there are.")
def serve(place: Place, print_config: bool, demo: bool) -> None:
    """Serve the store over HTTP until SIGTERM or SIGINT.

    A store without any key gets an admin key at its first start, shown once.
    """
    if print_config:
        click.echo(place.settings.render(), nl=False)
        return
    from server.serve import serve as run  # only this command pays for the HTTP server's start

    settings = place.settings
    try:
        run(settings, lambda port, made: _greet(place, port, made), new_key=demo)
    except OSError as error:
        raise StorageFailed(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; choose another with "
            "--host and --port"
        ) from error


def _greet(place: Place, port: int, made: str | None) -> None:
    settings = place.settings
    url = settings.public_url or f"http://{_host(settings)}:{port}"
    folder = settings.data.absolute() / "workspaces"
    if place.json:
        click.echo(msgspec.json.encode({"url": url, "port": port, "workspaces": str(folder), "key": made}))
        return
    click.echo(f"gitstore is ready at {url}")
    click.echo(f"workspaces are folders below {folder}: edit them there, or `git clone {folder}/<slug>`")
    click.echo(f"over the network: git clone {url}/git/<slug>.git (the password is a key)")
    if made is not None:
        click.echo(f"admin key (shown this once): {made}")
        click.echo(f"try it: curl -H 'Authorization: Bearer {made}' {url}/api/v1/workspaces")
    click.echo(f"pages for people: {url}/ui/ (sign in with a key)")


def _host(settings: config.Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  (what was chosen)
    return f"[{host}]" if ":" in host else host


# --- in and out -------------------------------------------------------------------------------------------------------


@command(main, "import", alone=True)
@click.argument("folders", nargs=-1, required=True, type=PATH, metavar="FOLDER...")
@click.option("--slug", help="The slug, in place of the one in workspace.yaml (one folder only).")
@click.option("--new-id", is_flag=True, help="New ids for the workspace, its workflows, tasks and artifacts.")
def import_(place: Place, folders: tuple[Path, ...], slug: str | None, new_id: bool) -> None:
    """Take folders in as workspaces.

    A FOLDER is a plain folder or a git repository, whose history is kept. Each is taken whole or not at all; one that
    is refused does not keep the others out.
    """
    if slug is not None and len(folders) > 1:
        raise click.UsageError("--slug is for one folder at a time")
    done: list[importing.Imported] = []
    failed: list[dict[str, Any]] = []
    with open_store(place.settings) as store:
        for folder in folders:
            try:
                one = importing.import_folder(store, folder, slug=slug, new_id=new_id, progress=place.progress)
            except GitstoreError as error:
                place.note(f"gitstore: {error.message}")
                failed.append({"folder": str(folder), "error": told(error)})
                continue
            done.append(one)
            for note in one.notes:
                place.note(f"{one.slug}: {note}")
            if not place.json:
                counts = f"{one.workflows} workflows, {one.tasks} tasks, {one.artifacts} artifacts"
                place.answer(one, f"imported {one.slug} ({one.id}): {counts}")
    if place.json:
        place.answer({"imported": done, "failed": failed})
    if failed:
        raise SystemExit(FAILED)


@command(main, "export")
@click.argument("reference", metavar="SLUG")
@click.argument("folder", type=PATH)
def export(place: Place, reference: str, folder: Path) -> None:
    """Write a workspace to FOLDER.

    With its full history in .git, the context checked out and evidence/ beside it, without secrets. FOLDER must not
    exist, or be empty.
    """
    done = exporting.export_workspace(place.data, reference, folder, progress=place.progress)
    place.answer(done, f"exported {done.slug} to {done.folder}")


@command(main, "backup")
@click.argument("file", type=PATH)
@click.option("--with-secrets", is_flag=True, help="Also the sealed secrets and the key that opens them.")
def backup_(place: Place, file: Path, with_secrets: bool) -> None:
    """Write all workspaces, with their history, and the API keys (as hashes) to one tar FILE.

    What nobody committed, the trash and the derived indexes are not in it.
    """
    done = backup.write(place.data, file, with_secrets=with_secrets, progress=place.progress)
    place.answer(
        {"file": str(file), "size": file.stat().st_size, **msgspec.to_builtins(done)},
        f"backed up {len(done.workspaces)} workspaces to {file}",
    )


@command(main, "restore", alone=True)
@click.argument("file", type=PATH)
def restore(place: Place, file: Path) -> None:
    """Make the store of a backup FILE in an empty data folder, and verify it."""
    done = backup.restore(file, place.data, progress=place.progress)
    open_store(place.settings).close()  # makes the indexes
    findings = list(verify.verify(place.data, secret_key=place.settings.secret_key, progress=place.progress))
    for finding in findings:
        place.note(_line(finding))
    sound = verify.sound(findings)
    place.answer(
        {"data": str(place.data), "sound": sound, "findings": findings, **msgspec.to_builtins(done)},
        f"restored {len(done.workspaces)} workspaces of {done.created_at} to {place.data}"
        + ("; everything is sound" if sound else ""),
    )
    if not sound:
        raise SystemExit(FAILED)


# --- looking after it -------------------------------------------------------------------------------------------------


command(main, "check")(check)


@command(main, "gc", alone=True)
@click.argument("references", nargs=-1, metavar="[WORKSPACE]...")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc_(place: Place, references: tuple[str, ...], dry_run: bool) -> None:
    """Take away what nobody needs any more: expired artifacts, and large objects that no commit names.

    Nothing younger than the setting reclaim_days. A running server does the same by itself once a day.
    """
    days = place.settings.reclaim_days
    with open_store(place.settings) as store:
        rows = []
        for one in reclaiming.reclaim(store, references, days=days, dry_run=dry_run):
            row = store.catalog.workspace(one.workspace) if one.workspace is not None else None
            rows.append({**msgspec.structs.asdict(one), "slug": row.slug if row is not None else None})
    size = sum(int(row["bytes"] or 0) for row in rows)
    lines = [
        f"{row['slug'] or '(store)'}: {row['what']} {row['path'] or row['id']}, {row['bytes']:,} bytes: {row['why']}"
        for row in rows
    ]
    end = f"{'would free' if dry_run else 'freed'} {size:,} bytes, {len(rows)} pieces"
    place.answer({"reclaimed": rows, "bytes": size, "dry_run": dry_run}, "\n".join([*lines, end]))


@command(main, "verify")
@click.option("--search", is_flag=True, help="Every document in git against the search index, one by one, as well.")
def verify_(place: Place, search: bool) -> None:
    """Check every object, ref, document, checkout, index, secret and key; exit code 0 only if all is sound."""
    settings = place.settings
    findings = []
    for finding in verify.verify(
        place.data,
        secret_key=settings.secret_key,
        policy=settings.secret_policy,
        progress=place.progress,
        search=search,
    ):
        findings.append(finding)
        if not place.json:
            place.answer(finding, _line(finding))
    sound = verify.sound(findings)
    errors = sum(finding.severity == "error" for finding in findings)
    place.answer(
        {"sound": sound, "findings": findings}, "everything is sound" if sound else f"not sound: {errors} errors"
    )
    if not sound:
        raise SystemExit(FAILED)


def _line(finding: verify.Finding) -> str:
    hint = f"\n    {finding.hint}" if finding.hint else ""
    return f"{finding.severity}: {finding.place}: {finding.message}{hint}"


@command(main, "reindex")
def reindex(place: Place) -> None:
    """Make the derived indexes (history, catalog, search) again from the branches; beside a server, search alone."""
    count = accord.reindex(place.data, options(place.settings), place.progress)
    place.answer({"workspaces": count}, f"indexed {count} workspaces")


# --- keys -------------------------------------------------------------------------------------------------------------


def _keys(place: Place) -> Keys:
    layout = Layout(place.data)
    if not layout.stamp.exists():
        open_store(place.settings).close()  # the first command of all: it makes the store
    layout.check()
    return Keys.open(layout.keys, token_key=bytes(32))  # tokens are the server's business


def _shown(record: KeyRecord) -> dict[str, Any]:
    times = ("created_at", "expires_at", "revoked_at")
    shown = {"id": record.id, "name": record.name, "scope": record.scope, "prefix": record.prefix}
    return shown | {name: None if (ms := getattr(record, name)) is None else values.iso(ms) for name in times}


@command(key, "create")
@click.option("--scope", required=True, type=click.Choice(["agent", "worker", "admin", "service"]))
@click.option("--name", required=True, help="What the key is for.")
@click.option("--expires-at", help="When it ends, such as 2027-01-31T00:00:00Z; else never.")
def create(place: Place, scope: str, name: str, expires_at: str | None) -> None:
    """Make a key and print it, the only time it can be seen."""
    until = None if expires_at is None else values.parse_iso(expires_at)
    record, text = _keys(place).create(scope, name, until)
    place.answer({**_shown(record), "key": text}, text)


@command(key, "list")
def list_keys(place: Place) -> None:
    """List the keys, oldest first."""
    records = [_shown(record) for record in _keys(place).list()]
    now = values.iso(int(time.time() * 1000))
    lines = []
    for record in records:
        ended = "revoked" if record["revoked_at"] else "expired" if (record["expires_at"] or "9") <= now else ""
        lines.append(f"{record['prefix']}  {record['scope']:<8}{record['name']}{f'  ({ended})' if ended else ''}")
    place.answer({"keys": records}, "\n".join(lines))


@command(key, "revoke")
@click.argument("key_id", metavar="KEY")
def revoke(place: Place, key_id: str) -> None:
    """End a key, given its id or prefix."""
    record = _keys(place).revoke(key_id)
    place.answer(_shown(record), f"revoked {record.prefix} ({record.name})")


# --- workspaces -------------------------------------------------------------------------------------------------------


@command(workspace, "list")
@click.option("--deleted", is_flag=True, help="Those in the trash.")
def list_workspaces(place: Place, deleted: bool) -> None:
    """List the workspaces, by slug."""
    if deleted:
        Layout(place.data).check()
        gone = trash.contents(Layout(place.data))
        rows = [{**msgspec.structs.asdict(one), "deleted_at": values.iso(one.deleted_at)} for one in gone]
        place.answer(
            {"workspaces": rows}, "\n".join(f"{row['deleted_at']}  {row['id']}  {row['slug']}" for row in rows)
        )
        return
    rows = []
    with Survey(place.data) as survey:
        for one in survey:
            fields = one.context().fields
            rows.append(
                {
                    "id": one.id,
                    "slug": fields.slug or one.folder,
                    "name": fields.name,
                    "is_active": fields.is_active,
                    "folder": str(survey.layout.workspaces / one.folder),
                    "main": one.head("main"),
                    "evidence": one.head("evidence"),
                }
            )
        for folder, error in survey.broken:
            place.note(f"workspaces/{folder}: {error.message}")
    rows.sort(key=lambda row: str(row["slug"]).casefold())
    place.answer({"workspaces": rows}, "\n".join(f"{row['id']}  {row['slug']}  {row['name']}" for row in rows))


@command(workspace, "restore", alone=True)
@click.argument("reference", metavar="WORKSPACE")
@click.option("--slug", help="A new slug, where the old one is taken.")
def restore_workspace(place: Place, reference: str, slug: str | None) -> None:
    """Bring a deleted workspace back, given its slug, its id or its name in the trash."""
    with open_store(place.settings) as store:
        one = trash.restore(store, reference, slug=slug)
    place.answer(
        {**msgspec.structs.asdict(one), "deleted_at": values.iso(one.deleted_at)}, f"restored {one.slug} ({one.id})"
    )


@command(workspace, "purge", alone=True)
@click.argument("references", nargs=-1, metavar="[WORKSPACE]...")
@click.option("--expired", is_flag=True, help="Those deleted longer ago than the setting trash_days says.")
def purge(place: Place, references: tuple[str, ...], expired: bool) -> None:
    """Remove deleted workspaces for good, with their sealed secrets and what search has read of them."""
    if not references and not expired:
        raise click.UsageError("name the deleted workspaces to purge, or give --expired")
    with open_store(place.settings) as store:
        gone = [one for reference in references for one in trash.find(store.layout, reference)]
        if expired:
            gone += trash.expired(store.layout, place.settings.trash_days, int(time.time() * 1000))
        gone = list({one.name: one for one in gone}.values())
        trash.purge(store, gone)
    rows = [{**msgspec.structs.asdict(one), "deleted_at": values.iso(one.deleted_at)} for one in gone]
    place.answer({"purged": rows}, "\n".join(f"purged {one.name}" for one in gone) or "nothing to purge")
