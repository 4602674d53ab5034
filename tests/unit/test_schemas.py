"""The JSON Schemas say what the rules say, and the line that names one is on new files, and only there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from draft import WORKSPACE, MemoryTree, MemoryWorkspace
from hypothesis import given
from hypothesis import strategies as st

from gitstore import documents, evidence, files, memory, names, parsed, rules, schemas, spec, workspaces
from gitstore.errors import Invalid, Malformed
from gitstore.model import Fields, Task, Workflow, WorkItem

SAMPLES = Path(__file__).parents[2] / "sample-workspaces"
ALL = (*schemas.MAIN, *schemas.EVIDENCE)
READ = {name: msgspec.json.decode(schemas.read(name)) for name in ALL}
VALID = {name: jsonschema.Draft7Validator(schema) for name, schema in READ.items()}
MARK = "# yaml-language-server: $schema="
CONTENT = evidence.Content("a.md", "0" * 40, 1, "0" * 64)


def _empty(rule: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: rule({} if value is None else value)


RULES: dict[str, Callable[[Any], object]] = {
    "workspace": rules.fields,
    "settings": _empty(rules.settings_file),
    "memory": lambda value: value,
    **{part: _empty(lambda value, part=part: rules.spec_part(part, value, "")) for part in rules.SPEC_PARTS},
    "meta": _empty(rules.meta),
    "workflow": lambda value: evidence.parse_workflow("workflows/aa/w.yaml", documents.dump(value), time=0),
    "task": lambda value: evidence.parse_task("tasks/aa/t.yaml", documents.dump(value), time=0),
    "artifact": lambda value: evidence.parse_artifact(
        WORKSPACE, "artifacts/aa/bb/x", documents.dump(value), CONTENT, time=0
    ),
}


def by_rules(name: str, value: Any) -> bool:
    try:
        RULES[name](value)
    except Invalid:
        return False
    return True


def by_schema(name: str, value: Any) -> bool:
    return bool(VALID[name].is_valid(value))


@pytest.mark.parametrize("name", ALL)
def test_each_is_a_schema_that_helps_while_typing(name: str) -> None:
    schema = READ[name]
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["title"].endswith(".yaml")
    assert schema["description"].endswith(".")
    bare = [key for key, one in schema.get("properties", {}).items() if "description" not in one and "$ref" not in one]
    assert bare == []


def test_they_know_the_fields_that_the_readers_know() -> None:
    def properties(name: str) -> set[str]:
        return set(READ[name]["properties"])

    derived = {"size", "sha256", "blob", "commit", "retention", "expires_at", "id"}
    assert properties("workspace") == set(Fields.__struct_fields__)
    assert properties("meta") == set(rules.Meta._fields)
    assert properties("workflow") == set(Workflow.__struct_fields__)
    assert properties("task") == set(Task.__struct_fields__)
    assert properties("artifact") == set(evidence.Artifact.__struct_fields__) - derived
    item = READ["workflow"]["definitions"]["work_item"]["anyOf"][1]
    assert set(item["properties"]) == set(WorkItem.__struct_fields__)


FULL = {"id": WORKSPACE, "name": "N", "slug": "s"}
GOOD: list[tuple[str, Any]] = [
    ("workspace", FULL),
    ("workspace", FULL | {"id": WORKSPACE.upper(), "x": {"y": [1]}, "description": None, "git_webhook_provider": None}),
    ("workspace", FULL | {"name": "n" * 255, "slug": "S" * 100, "description": "d" * 2000, "is_active": False}),
    ("workspace", FULL | {"slug": "console.v2_x"}),
    *(
        ("workspace", FULL | {"repository_url": url})
        for url in (
            "https://github.com/org/repo.git",
            "HTTP://git.example:8080/x",
            "ssh://git@git.example:22/~/x.git",
            "git://git.example/x",
            "git@github.com:org/repo.git",
            "github.com:org/repo",
            "host.example:a",
            "https://[2001:db8::1]/x",
            "https://git.example/" + "x" * (2048 - 20),
        )
    ),
    ("settings", None),
    ("settings", {"a": 1, "workspace_brief": "b" * 20_000, "git_user_email": "e" * 320, "storage": None}),
    ("settings", {"storage": {"type": "host_directory", "x": 1}, "workspace_storage_type": "host_directory"}),
    ("settings", {"workspace_storage": {"repository_url": ""}, "sync": {"url": "git@h.example:x"}}),
    ("settings", {"sync": {"direction": "both", "on_conflict": "stop", "branch": None, "interval": 10}}),
    ("settings", {"checkout": {"mode": "manual"}}),
    ("settings", {"credentials": {"git_token": "redacted://workspace-settings-secret", "git_token_configured": True}}),
    ("settings", {"credentials": {}, "default_branch": None}),
    ("memory", None),
    ("memory", {"key": "long", "value": [1]}),
    ("resources", None),
    ("resources", {"a": {"type": "repository", "binding": {"url": "x", "branch": 1}, "notes": 3}}),
    ("resources", {"a": {"type": "api", "binding": {"base_url": "x"}}}),
    ("resources", {"a": {"type": "search", "binding": {"provider": "p"}}}),
    ("documents", {"a": {"source": "repository", "path": "x"}, "b": {"url": "u"}, "c": {"source": None, "path": "p"}}),
    ("documents", {"a": {"logical_path": "l", "title": 1}}),
    ("tools", {"available": ["a", 1, None], "blocked": "odd, and passed over", "x": 1}),
    ("config", {"anything": [None]}),
    ("instructions", {"content": "a { b } c", "format": "markdown", "x": 1}),
    ("instructions", {"content": None, "format": None}),
    ("meta", None),
    ("meta", {"key": "k" * 120, "content_type": 'text/x; q="a\\"b"; r=s', "description": None, "x": 1}),
    ("workflow", None),
    ("workflow", {"name": 12, "state": None, "work_items": ["a", {"id": 1, "title": 2.5, "state": "any"}]}),
    ("workflow", {"created_at": "2026-11-24", "started_at": 20261124, "completed_at": "2026-W48-2"}),
    ("workflow", {"playbook_id": " ", "created_by": None}),
    ("workflow", {"metadata": None, "parameters": {"a": 1}, "work_items": None, "x": 1}),
    ("task", {"title": "t", "state": "awaiting_approval", "workflow_id": 7, "updated_at": "2026-11-24T03:00:00.000Z"}),
    ("artifact", {"path": "a/b.md", "content_type": "text/markdown", "metadata": {"a": 1}, "task_id": "t"}),
    ("artifact", {}),
]  # fmt: skip
BAD: list[tuple[str, Any]] = [
    ("workspace", None),
    ("workspace", []),
    *(("workspace", {key: FULL[key] for key in FULL if key != gone}) for gone in FULL),
    *(
        ("workspace", FULL | wrong)
        for wrong in (
            {"id": "x"}, {"id": 1}, {"name": ""}, {"name": "n" * 256}, {"name": None}, {"description": "d" * 2001},
            {"slug": ""}, {"slug": "-a"}, {"slug": "a."}, {"slug": "a b"}, {"slug": "a.GIT"}, {"slug": "x.lock"},
            {"slug": "s" * 101}, {"slug": WORKSPACE}, {"slug": WORKSPACE.replace("-", "")}, {"slug": "CON"},
            {"slug": "lpt1.x"}, {"is_active": None}, {"is_active": "yes"}, {"git_webhook_provider": "svn"},
            {"repository_url": ""}, {"repository_url": 1}, {"repository_url": "x"}, {"repository_url": "/etc/passwd"},
            {"repository_url": "ftp://x.example/y"}, {"repository_url": "file:/x"}, {"repository_url": "https://"},
            {"repository_url": "https:///x"}, {"repository_url": "https://a b.example/x"},
            {"repository_url": "javascript:alert(1)"}, {"repository_url": "-oProxyCommand=id:x"},
            {"repository_url": "ext::sh -c id"}, {"repository_url": "https://git.example/" + "x" * 2048},
        )
    ),
    *(
        ("settings", wrong)
        for wrong in (
            [], "x", {"default_branch": 1}, {"default_branch": "b" * 256}, {"git_user_email": "e" * 321},
            {"workspace_brief": "b" * 20_001}, {"storage": []}, {"storage": {"type": "s3"}}, {"storage": {"type": ""}},
            {"workspace_storage_type": "s3"}, {"storage": {"repository_url": "x"}}, {"sync": {"direction": "up"}},
            {"sync": {"on_conflict": 1}}, {"sync": {"url": "x"}}, {"sync": {"branch": []}}, {"sync": {"interval": 9}},
            {"checkout": {"mode": "off"}}, {"checkout": []}, {"credentials": "x"},
            {"credentials": {"git_token": "s3cr3t"}}, {"credentials": {"other": 1}},
        )
    ),
    *((part, []) for part in rules.SPEC_PARTS),
    *(
        ("resources", wrong)
        for wrong in (
            {"a": None}, {"a": {}}, {" ": {"type": "api", "binding": {"base_url": "x"}}},
            {"a": {"type": "ftp", "binding": {}}}, {"a": {"type": "repository"}},
            {"a": {"type": "repository", "binding": {}}}, {"a": {"type": "repository", "binding": {"url": " "}}},
            {"a": {"type": "api", "binding": {"url": "x"}}}, {"a": {"type": "search", "binding": {"provider": 1}}},
            {"a": {"type": "search", "binding": {"provider": "p", "API-Key": "x"}}},
            {"a": {"type": "search", "binding": {"provider": "p", "my_password_2": None}}},
        )
    ),
    *(
        ("documents", wrong)
        for wrong in (
            {"a": []}, {"a": {}}, {"a": {"source": "web", "url": "x"}}, {"a": {"source": "repository"}},
            {"a": {"source": "external", "url": ""}}, {"a": {"source": "artifact", "path": "x"}},
            {"a": {"url": 1}}, {"": {"url": "x"}},
        )
    ),
    *(
        ("instructions", wrong)
        for wrong in ({"content": 1}, {"content": "a {{b"}, {"content": "a\n}}"}, {"format": "html"})
    ),
    *(
        ("meta", wrong)
        for wrong in (
            {"key": ""}, {"key": "k" * 121}, {"key": " "}, {"key": "a\nb"}, {"key": 1}, {"content_type": "text"},
            {"content_type": "a/b c"}, {"content_type": 'a/b;c="'}, {"description": "d" * 2001}, {"file_name": ""},
        )
    ),
    *(
        ("workflow", wrong)
        for wrong in (
            [], {"state": "done"}, {"state": ""}, {"state": False}, {"name": "n" * 1025}, {"name": []},
            {"brief": "b" * 20_001}, {"parameters": []}, {"created_by": 1}, {"created_at": "soon"},
            {"created_at": True}, {"work_items": {}}, {"work_items": [{}]}, {"work_items": [{"id": " "}]},
            {"work_items": [1]}, {"work_items": [{"id": "a", "title": []}]}, {"work_items": [{"id": "a", "state": 1}]},
            {"playbook_id": 1.5}, {"playbook_id": "a\x07"},
        )
    ),
    *(
        ("task", wrong)
        for wrong in ([], {"state": "active"}, {"role": "r" * 256}, {"workflow_id": "w" * 256}, {"title": {}})
    ),
    *(
        ("artifact", wrong)
        for wrong in (
            [], {"path": ""}, {"path": "/a"}, {"path": "a/"}, {"path": "a\\b"}, {"path": "C:x"}, {"path": "p" * 1025},
            {"content_type": "x"}, {"metadata": []}, {"request_digest": "d" * 65}, {"created_at": []},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_what_is_right_is_right_to_both(name: str, value: Any) -> None:
    assert by_rules(name, value)
    assert list(VALID[name].iter_errors(value)) == []


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_is_wrong_is_wrong_to_both(name: str, value: Any) -> None:
    assert not by_rules(name, value)
    assert not by_schema(name, value)


def _keys(name: str) -> list[str]:
    return sorted(set(re.findall(r'"(\w+)": \{', schemas.read(name).decode())))


_LEAVES = st.one_of(
    st.sampled_from([None, True, False, 0, 7, -1, 1.5, 20261124]),
    st.sampled_from(["", " ", "x", "a b", "a/b", "/x", "x/", "{{", "a\x01b", "\n", "x.git", "con", WORKSPACE, "é"]),
    st.sampled_from(["x" * size for size in (64, 65, 100, 101, 120, 121, 255, 256, 1024, 1025, 2000, 2001)]),
    st.sampled_from(["https://a.example/x", "git@a.example:x", "a.example:x", "https://u@a.example?b", "ftp://a/b"]),
    st.sampled_from(["text/plain", "a/b;c=d", 'a/b; c="d;\\""', "2026-11-24", "2026W481", "20261124T101112Z", "pull"]),
    st.sampled_from([*rules.STORAGE_TYPES, *rules.RESOURCE_FIELDS, *rules.DOCUMENT_FIELDS, *evidence.TASK_STATES]),
    st.text(max_size=8).filter(lambda text: "\0" not in text and not re.search("[\ud800-\udfff]", text)),
)


@given(data=st.data())
def test_the_schemas_refuse_nothing_that_the_rules_accept(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(ALL))
    keys = st.sampled_from([*_keys(name), "binding", "type", "source", "x", " ", "api_key"])
    values = st.recursive(
        _LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=4), max_leaves=6
    )
    value = data.draw(st.dictionaries(keys, values, max_size=4) | values)
    if isinstance(value, dict) and name == "workspace":
        value = FULL | value
    try:
        accepted = by_rules(name, value)
    except Malformed:
        return
    assert by_schema(name, value) or not accepted, value


def test_the_samples_keep_to_their_schemas() -> None:
    seen = set()
    for path in sorted(SAMPLES.rglob("*.yaml")):
        parts = path.relative_to(SAMPLES).parts[1:]
        name = {"memory": "memory", "files": "meta", "spec": path.stem, "evidence": parts[1][:-1] if parts[1:] else ""}
        kind = name.get(parts[0], path.stem)
        if parts[0] == "evidence" and parts[1] == "artifacts" and path.name != evidence.ARTIFACT_DOCUMENT:
            continue
        errors = list(VALID[kind].iter_errors(documents.load(path.read_bytes())))
        assert errors == [], path
        seen.add(kind)
    assert seen == set(ALL)


# --- the line ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace() -> MemoryWorkspace:
    made = MemoryWorkspace()
    record = {"name": "P", "slug": "p", "settings": {"a": 1}, "memory": {"k": [1], "k" * 256: 2}}
    made.apply(workspaces.create, record)
    return made


def everything(workspace: MemoryWorkspace, number: int) -> None:
    """One of every write that the API knows."""
    workspace.apply(workspaces.update, {"name": f"N{number}", "settings": {"b": number}})
    workspace.apply(memory.set, {"k": {"n": number}, "new": [number], "k" * 256: number})
    workspace.apply(spec.put, {part: {"content": "c", "n": {"url": "u"}, "x": number} for part in ("config", "tools")})
    upload = files.upload(file_name="a.md", content=b"x%d" % number, description=f"d{number}")
    workspace.apply(files.put, [upload])
    workspace.apply(files.put, [files.upload(file_name="a.md", content=b"x", key="deep/one", description="d")])


def line_of(workspace: MemoryWorkspace, path: str) -> str:
    return workspace.files[path].decode().splitlines()[0]


def written(workspace: MemoryWorkspace) -> list[str]:
    return [path for path in workspace.files if path.endswith(".yaml")]


def test_every_new_file_names_a_schema_that_is_there_and_that_it_keeps(workspace: MemoryWorkspace) -> None:
    everything(workspace, 1)
    kinds = set()
    for path in written(workspace):
        line = line_of(workspace, path)
        assert line.startswith(MARK), path
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), line.removeprefix(MARK)))
        assert workspace.files[target] == schemas.files()[target].data
        kind = posixpath.basename(target).removesuffix(".json")
        assert by_schema(kind, documents.load(workspace.files[path])), path
        kinds.add(kind)
    assert kinds == {"workspace", "settings", "memory", "config", "tools", "meta"}
    assert "files/deep%2Fone/a.md.meta.yaml" in workspace.files
    assert workspace.context.problems == ()


def test_a_workspace_without_schemas_gets_plain_files() -> None:
    workspace = MemoryWorkspace.of({"workspace.yaml": f"id: {WORKSPACE}\nname: P\nslug: p\n".encode()})
    everything(workspace, 1)
    everything(workspace, 2)
    assert [path for path in written(workspace) if MARK.encode() in workspace.files[path]] == []
    assert workspace.files["memory/k.yaml"] == documents.dump({"n": 2})


def test_the_folder_may_go_and_nothing_depends_on_it(workspace: MemoryWorkspace) -> None:
    workspace.edit(dict.fromkeys(schemas.files()))
    everything(workspace, 1)
    assert line_of(workspace, "memory/k.yaml").startswith(MARK)
    assert workspace.files["memory/new.yaml"] == documents.dump([1])
    workspace.edit({".gitstore/schemas/memory.json": b"{}\n"})
    workspace.apply(memory.set, {"k2": 1, "new": 2})
    assert line_of(workspace, "memory/k2.yaml").startswith(MARK)
    assert workspace.files["memory/new.yaml"] == documents.dump(2)
    assert workspace.context.problems == ()


MINE = b"# yaml-language-server: $schema=../../schemas/our%20own.json \xc3\xa9\n"


@pytest.mark.parametrize("own", [MINE, MINE.replace(b"\n", b"\r\n")], ids=["lf", "crlf"])
@pytest.mark.parametrize("broken", [False, True], ids=["sound", "broken"])
def test_a_persons_line_survives_every_write(workspace: MemoryWorkspace, own: bytes, broken: bool) -> None:
    everything(workspace, 1)
    mine = {path: own + workspace.files[path].split(b"\n", 1)[1] for path in written(workspace)}
    if broken:
        mine = dict.fromkeys(mine, own + b"a: [\n")
    workspace.edit(mine)
    everything(workspace, 2)
    everything(workspace, 3)
    for path in mine:
        assert workspace.files[path].startswith(own), path
        assert workspace.files[path].count(MARK.encode()) == 1
    assert workspace.context.problems == ()


@pytest.mark.parametrize("line", [b"", MINE], ids=["plain", "line"])
def test_a_memory_file_that_no_person_formatted_is_not_edited(
    workspace: MemoryWorkspace, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.edit({"memory/k.yaml": line + documents.dump({"a": 1})})
    assert workspace.context.memory["k"].head == line

    def edit(*_: object, **__: object) -> bytes:
        raise AssertionError("the file was taken apart")

    monkeypatch.setattr(documents, "edit", edit)
    workspace.apply(memory.set, {"k": {"a": 2}, "other": 1})
    workspace.apply(memory.set, {"k": "text\nof lines\n", "other": 2})
    assert workspace.files["memory/k.yaml"] == line + documents.dump("text\nof lines\n")


def test_a_line_never_makes_a_file_too_long(workspace: MemoryWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    value = "x" * 500
    monkeypatch.setattr(documents, "MAX_BYTES", len(documents.dump(value)) + 5)
    workspace.apply(memory.set, {"k": value, "new": value})
    assert workspace.files["memory/k.yaml"] == workspace.files["memory/new.yaml"] == documents.dump(value)


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (b"", b""),
        (b"a: 1\n", b""),
        (b"# other\n" + MINE, b""),
        (MINE, MINE),
        (MINE[:-1], b""),
        (MINE[:-1] + b"\r\n1\n", MINE[:-1] + b"\r\n"),
        (b"# yaml-language-server: $schema=x\rb: 1\na: 2\n", b""),
        ("# yaml-language-server: $schema=x\u2028b: 1\na: 2\n".encode(), b""),
        ("# yaml-language-server: $schema=x\u0085b: 1\na: 2\n".encode(), b""),
        (b"# yaml-language-server: $schema=\xff\na: 2\n", b""),
        (b"# yaml-language-server: $schema=\x07\na: 2\n", b""),
    ],
)
def test_the_line_is_one_comment_and_nothing_else(data: bytes, head: bytes) -> None:
    for _ in range(2):
        assert schemas.split(data) == (head, data[len(head) :])
    assert documents.load(head) is None


@given(
    value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one), max_leaves=3)
)
def test_what_stands_below_a_line_is_read_back(value: Any) -> None:
    try:
        data, head = parsed.written(value, MINE)
    except Malformed:
        return
    assert documents.load(data) == value
    assert parsed.head(data, value) == head == MINE


def test_what_is_missing_is_added_where_there_is_room() -> None:
    def lacking(*paths: str) -> list[str]:
        return [names.one_line(path) for path in schemas.missing(MemoryTree(dict.fromkeys(paths, b"x")))]

    everything = list(schemas.files())
    assert lacking() == everything
    assert lacking("README.md", ".gitstore/notes.md") == everything
    assert lacking(*everything) == []
    assert lacking(".gitstore/schemas/memory.json", ".gitstore/schemas/Meta.JSON") == [
        path for path in everything if not path.endswith(("memory.json", "meta.json"))
    ]
    for path in (".gitstore", ".gitstore/schemas", ".Gitstore/x", ".gitstore/Schemas/x"):
        assert lacking(path) == []


def test_all_workspaces_share_the_objects() -> None:
    one, two = MemoryWorkspace(), MemoryWorkspace()
    for made in (one, two):
        made.apply(workspaces.create, {"name": "P", "slug": "p"})
    assert schemas.files() is schemas.files()
    for path, blob in schemas.files().items():
        assert one.files[path] is two.files[path] is blob.data
        assert blob.ready is not None


def test_evidence_has_no_line_and_keeps_one() -> None:
    task = Task(id="t", title="T", created_at=1, updated_at=1)
    path = "tasks/aa/t.yaml"
    plain = evidence.task_document(task, path)
    assert MARK.encode() not in plain
    for base in (MINE, MINE + plain):
        before = evidence.parse_task(path, base, time=1)
        after = msgspec.structs.replace(before, state="ready")
        assert evidence.task_document(after, path, base, before).startswith(MINE)
