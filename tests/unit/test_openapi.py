from __future__ import annotations

import json
import re

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from serving import serve

from server import shapes
from server.app import routes
from server.config import Settings
from server.http import Reply, Route
from server.openapi import document
from server.shapes import artifacts, files, problems, remotes, spec, timeline, workflows, workspaces
from server.shapes.common import Paging


def anything(call):
    """What it does, at length."""
    return Reply()


def other(call):
    return Reply()


def fetch(call):
    return Reply()


A = "/api/v1"
MORE = (
    Route("GET", f"{A}/workspaces", "agent", anything, "List", query=workspaces.ListWorkspaces, paged=True,
          response=list[workspaces.WorkspaceRow]),
    Route("POST", f"{A}/workspaces", "admin", other, "Create", body=workspaces.CreateWorkspace, status=201,
          response=workspaces.Workspace),
    Route("GET", f"{A}/workspaces/{{id}}/content", "agent", fetch, "Content", media="*/*", query=files.ReadFile),
    Route("DELETE", f"{A}/workspaces/{{id}}/files/{{file_id}}", "admin", fetch, "Delete", status=204),
    Route("POST", f"{A}/workspaces/{{id}}/artifacts", "agent", fetch, "Upload", body=artifacts.UploadArtifact,
          uploads=("multipart/form-data", "*/*"), query=artifacts.ArtifactFields, status=201,
          response=artifacts.Artifact),
    Route("GET", "/git/{name}/{rest+}", "agent", fetch, "git", hidden=True),
)  # fmt: skip


def made(*more: Route):
    return document(routes(Settings(), more), "https://git.example.org")


def test_the_document_is_valid():
    text = made(*MORE)
    OpenAPIV31SpecValidator(text).validate()
    json.dumps(text)


def test_every_shape_can_be_documented():
    kinds = {
        kind
        for module in (
            artifacts,
            files,
            problems,
            remotes,
            spec,
            timeline,
            workflows,
            workspaces,
            shapes.keys,
            shapes.health,
        )
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }
    assert len(kinds) > 50
    table = [Route("POST", f"/{i}", None, other, "x", body=kind, response=list[kind]) for i, kind in enumerate(kinds)]
    text = document(table)
    for number, path in enumerate(text["paths"].values()):
        path["post"]["operationId"] += str(number)
    OpenAPIV31SpecValidator(text).validate()
    documented = {name.rsplit(".", 1)[-1].rsplit("_", 1)[-1] for name in text["components"]["schemas"]}
    assert {kind.__name__ for kind in kinds} <= documented


def test_what_the_table_says_is_what_is_documented():
    text = made(*MORE)
    listing = text["paths"][f"{A}/workspaces"]["get"]
    assert listing["x-scope"] == "agent"
    assert listing["security"] == [{"bearer": []}, {"basic": []}]
    assert listing["description"] == "What it does, at length."
    parameters = {each["name"]: each for each in listing["parameters"] if "name" in each}
    assert parameters["per_page"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert parameters["is_active"]["schema"] == {"type": "boolean"}
    assert set(parameters["sort"]["schema"]["enum"]) == {"newest", "oldest", "name", "updated"}
    answer = listing["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(answer["required"]) == {"data", "meta", "pagination"}
    assert {"401", "403", "404", "422", "429", "500", "503"} <= set(listing["responses"])

    create = text["paths"][f"{A}/workspaces"]["post"]
    assert "201" in create["responses"]
    assert {"409", "413", "415", "422"} <= set(create["responses"])
    assert create["requestBody"]["required"] is True
    body = text["components"]["schemas"]["CreateWorkspace"]
    assert body["required"] == ["name", "slug"]
    assert body["properties"]["name"]["maxLength"] == 255

    upload = text["paths"][f"{A}/workspaces/{{id}}/artifacts"]["post"]
    assert set(upload["requestBody"]["content"]) == {"application/json", "multipart/form-data", "*/*"}
    content = text["paths"][f"{A}/workspaces/{{id}}/content"]["get"]
    assert set(content["responses"]["200"]["content"]) == {"*/*"}
    assert "416" in content["responses"]
    assert "content" not in text["paths"][f"{A}/workspaces/{{id}}/files/{{file_id}}"]["delete"]["responses"]["204"]
    assert "security" not in text["paths"]["/health"]["get"]
    assert not any(path.startswith("/git") for path in text["paths"])


def test_every_path_parameter_is_documented():
    for path, item in made(*MORE)["paths"].items():
        for operation in item.values():
            named = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


def test_operations_have_ids_of_their_own():
    table = routes(Settings())
    ids = [op["operationId"] for item in document(table)["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids))


def test_two_handlers_of_one_name_are_told_apart():
    twice = [Route("GET", "/a", None, other, "x"), Route("GET", "/b", None, other, "x", query=Paging)]
    text = document(twice)
    assert len({text["paths"][path]["get"]["operationId"] for path in ("/a", "/b")}) == 2
    OpenAPIV31SpecValidator(text).validate()


def test_it_is_served_without_a_key(tmp_path):
    with serve(tmp_path, public_url="https://git.example.org") as running:
        answer = running.ask("GET", "/openapi.json", key=None)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json["openapi"] == "3.1.0"
        assert answer.json["servers"] == [{"url": "https://git.example.org"}]
        assert f"{A}/api-keys" in answer.json["paths"]
        assert "ETag" in answer.headers


@pytest.mark.parametrize("shown", [False, True])
def test_metrics_are_documented_as_they_are(shown):
    operation = document(routes(Settings(metrics_open=shown)))["paths"]["/metrics"]["get"]
    assert ("security" in operation) is not shown
