"""What exists is documented: every setting, route, error code, timeline kind and command, with the facts they have."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import pytest

from gitstore import errors, facts, model
from gitstore.remotes.report import REASONS
from gitstore.repository import refs
from server import config, openapi
from server.app import routes
from server.config import Settings
from server.http import MethodNotAllowed, RangeNotSatisfiable, Route
from server.web.table import PLACES
from server.web.visit import Place

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SAMPLE_PAGES = sorted((ROOT / "sample-workspaces").glob("*/README.md"))
API = (ROOT / "docs/api.md").read_text()
FORMAT = (ROOT / "docs/format.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
PAGES_FOR_PEOPLE = (ROOT / "docs/pages.md").read_text()
README = (ROOT / "README.md").read_text()


def _rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def _toml(value: Any) -> str:
    return "[]" if value == () else json.dumps(str(value) if isinstance(value, Path) else value)


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_each_setting_is_documented_with_its_default(setting: Any) -> None:
    row = next((row for row in _rows(CONFIGURATION) if row[0] == f"`{setting.name}`"), None)
    assert row is not None, f"docs/configuration.md has no row for `{setting.name}`"
    assert setting.default is not MISSING
    assert row[1] == ("none" if setting.default is None else f"`{_toml(setting.default)}`")


def test_no_setting_is_documented_that_is_gone() -> None:
    known = {setting.name for setting in fields(Settings)}
    written = {row[0].strip("`") for row in _rows(CONFIGURATION) if re.fullmatch(r"`[a-z_]+`", row[0])}
    assert written == known
    assert config.CONFIG_VARIABLE in CONFIGURATION
    assert config.FILE_NAME in CONFIGURATION


def test_the_readme_points_at_settings_that_exist() -> None:
    variables = set(re.findall(r"GITSTORE_[A-Z_]+", README + CONFIGURATION)) - {config.CONFIG_VARIABLE, config.PREFIX}
    assert {name.removeprefix(config.PREFIX).lower() for name in variables} <= {one.name for one in fields(Settings)}


def _documented() -> dict[tuple[str, str], str]:
    """(method, path) → scope, from the tables of docs/api.md."""
    found = {}
    for row in _rows(API):
        for method, path in re.findall(r"(GET|POST|PUT|PATCH|DELETE) `(/[^`]*)`", row[0]):
            found[method, path] = row[1]
    return found


@pytest.mark.parametrize("route", routes(Settings()), ids=lambda route: f"{route.method} {route.path}")
def test_each_route_is_documented_with_its_scope(route: Route) -> None:
    scope = _documented().get((route.method, route.path))
    assert scope is not None, f"docs/api.md does not list {route.method} {route.path}"
    assert scope.split(":")[0].split(",")[0] == (route.scope or "none")


def test_no_route_is_documented_that_is_gone() -> None:
    assert set(_documented()) == {(route.method, route.path) for route in routes(Settings())}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.method} {place.path}")
def test_each_page_is_documented_with_its_scope(place: Place) -> None:
    listed = {(method, path): row[1] for row in _rows(PAGES_FOR_PEOPLE)
              for method, path in re.findall(r"(GET|POST) `(/[^`]*)`", row[0])}  # fmt: skip
    assert listed.get((place.method, place.path)) == (place.scope or "none")
    assert set(listed) == {(one.method, one.path) for one in PLACES}


def _errors() -> list[type[errors.GitstoreError]]:
    found: list[type[errors.GitstoreError]] = [MethodNotAllowed, RangeNotSatisfiable]
    waiting: list[type[errors.GitstoreError]] = [errors.GitstoreError]
    while waiting:
        one = waiting.pop()
        if one.__module__ == errors.__name__:
            found.append(one)
        waiting += one.__subclasses__()
    return found


@pytest.mark.parametrize("error", _errors(), ids=lambda error: error.__name__)
def test_each_error_code_is_documented_with_its_status(error: type[errors.GitstoreError]) -> None:
    assert [str(error.status_hint), f"`{error.code}`"] in [row[:2] for row in _rows(API)]


def test_words_of_the_api_are_documented() -> None:
    words = [*get_args(model.Kind), *get_args(model.Door), *get_args(model.WorkflowState), *get_args(model.TaskState)]
    assert [word for word in (*words, *REASONS) if f"`{word}`" not in API] == []


def test_fields_of_the_records_are_documented() -> None:
    schemas = openapi.document(routes(Settings()))["components"]["schemas"]
    missing = [
        f"{name}.{field}"
        for name in schemas
        for field in schemas[name].get("properties", {})
        if not re.search(rf"\b{field}\b", API)
    ]
    assert missing == []


def test_trailers_refs_and_folders_are_documented() -> None:
    who = model.Provenance(model.SYSTEM, request_id="r", workflow_id="w", task_id="t")
    text = facts.message("edit", "n", "completed", 0, who, None, None)
    assert [name for name in re.findall(r"^(Gitstore-\w+):", text, re.MULTILINE) if f"`{name}`" not in FORMAT] == []
    for ref in (*refs.HEADS.values(), *refs.KEPT.values(), *refs.SHOWN.values()):
        assert f"`{ref}`" in FORMAT
    for place in ("store.yaml", "keys.yaml", "secrets/", "journal/", "derived/", "trash/", "workspaces/<slug>/"):
        assert place in FORMAT
        assert place in README


def _commands() -> list[tuple[str, Any]]:
    if importlib.util.find_spec("server.cli") is None:
        return []
    import click

    def walk(group: Any, path: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from walk(command, f"{path} {name}")
            else:
                yield f"{path} {name}", command

    return list(walk(importlib.import_module("server.cli").main, "gitstore"))


@pytest.mark.parametrize(("line", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_each_command_is_documented(line: str, command: Any) -> None:
    import click

    assert f"`{line}" in README, f"README.md does not mention `{line}`"
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    missing = [
        one.name for one in options if not any(f"{flag}" in README or flag in CONFIGURATION for flag in one.opts)
    ]
    assert missing == [], f"README.md does not mention these options of `{line}`"


def test_no_command_is_documented_that_is_gone() -> None:
    known = {line for line, _ in _commands()}
    if not known:
        pytest.skip("there is no command line yet")
    written = {
        f"gitstore {words}" for words in re.findall(r"^\| `gitstore ([a-z-]+(?: [a-z-]+)?)", README, re.MULTILINE)
    }
    assert written == known


@pytest.mark.parametrize("page", [*PAGES, *SAMPLE_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        place, _, heading = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), f"{page.name} links to {target}"
        if heading:
            assert heading in _headings(linked.read_text()), f"{page.name} links to {target}"


def _headings(text: str) -> set[str]:
    """The anchors of a page's headings, as git hosts make them."""
    lines = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_make_targets_that_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:\$ |`)make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"there is no `make {target}`"
