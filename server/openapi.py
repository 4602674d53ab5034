"""The OpenAPI 3.1 document, made from the route table: what the server checks is what it documents."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect

from server.http import Route
from server.routes.health import VERSION

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(\+?)\}")
_ERRORS = {
    "400": ("Malformed", "Not JSON, or against a rule of the domain: `MALFORMED_REQUEST`, `VALIDATION_ERROR`."),
    "401": ("Unauthorized", "No valid key: `UNAUTHORIZED`."),
    "403": ("Forbidden", "The key's scope is too weak: `FORBIDDEN`."),
    "404": ("NotFound", "Nothing has this name: `NOT_FOUND`."),
    "409": ("Conflict", "Taken, depended upon, or changed by someone else: `CONFLICT`."),
    "412": ("PreconditionFailed", "`PRECONDITION_FAILED`; `details.current` is the current ETag."),
    "413": ("TooLarge", "Over a limit that the message names: `PAYLOAD_TOO_LARGE`."),
    "415": ("UnsupportedType", "A media type this route does not read: `UNSUPPORTED_MEDIA_TYPE`."),
    "416": ("RangeNotSatisfiable", "No byte of the range exists: `RANGE_NOT_SATISFIABLE`."),
    "422": ("WrongShape", "Body or query of the wrong shape, every fault at once: `SCHEMA_VALIDATION_FAILED`."),
    "429": ("RateLimited", "Too many requests: `RATE_LIMITED`; see `Retry-After`."),
    "500": ("Failed", "The server failed: `INTERNAL_ERROR`."),
    "503": ("Unavailable", "Try again later: `SERVICE_UNAVAILABLE`."),
}
_REQUEST_HEADERS = {
    "X-Request-Id": (
        "An id for this request, returned and logged.",
        {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    ),
    "X-Workflow-Id": (
        "The workflow on whose behalf this is written.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    "X-Task-Id": ("The task on whose behalf this is written.", {"type": "string", "minLength": 1, "maxLength": 255}),
    "If-Match": ("Only if the resource still has this ETag.", {"type": "string"}),
    "If-None-Match": ("Reads: only if changed. Writes: `*` creates only.", {"type": "string"}),
}
_ANSWER_HEADERS = {
    "X-Request-Id": ("The id of the request.", {"type": "string"}),
    "ETag": ("Identifies `data`; changes whenever it does.", {"type": "string"}),
    "Link": ("first, prev, next, last page (RFC 8288).", {"type": "string"}),
    "Gitstore-At": ("With `at`: the commit of `main` that the answer is of.", {"type": "string"}),
}
_COMMIT = {"type": ["string", "null"], "pattern": "^[0-9a-f]{40}$"}
_MOMENT = {
    "type": "object",
    "description": "with `at`: the moment that the answer is of",
    "required": ["asked", "main", "evidence", "time"],
    "properties": {
        "asked": {"type": "string"},
        "main": _COMMIT,
        "evidence": _COMMIT,
        "time": {"type": "string", "format": "date-time"},
    },
}
_META = {
    "type": "object",
    "required": ["request_id", "timestamp"],
    "properties": {
        "request_id": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
        "at": _MOMENT,
    },
}
_COUNTS = {name: {"type": "integer"} for name in ("page", "per_page", "total", "total_pages")}


def document(routes: Iterable[Route], server_url: str | None = None) -> dict[str, Any]:
    """The document as plain JSON data; valid OpenAPI 3.1."""
    shown = [route for route in routes if not route.hidden]
    types = _types(shown)
    references, schemas = msgspec.json.schema_components(list(types.values()), ref_template=_REF)
    places = dict(zip(types, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    used: dict[str, int] = {}
    for route in shown:
        operation = _operation(route, places)
        name = operation["operationId"]
        used[name] = used.get(name, 0) + 1
        if used[name] > 1:
            operation["operationId"] = f"{name}_{used[name]}"
        paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})[route.method.lower()] = operation
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "gitstore",
            "version": VERSION,
            "description": "A git-backed store for the standing context and the produced evidence of AI-agent work.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Meta": _META, "PageMeta": _page_meta(), "Error": _error()},
            "responses": {name: _failure(text) for name, text in _ERRORS.values()},
            "parameters": {
                name: {"name": name, "in": "header", "description": text, "schema": schema}
                for name, (text, schema) in _REQUEST_HEADERS.items()
            },
            "headers": {n: {"description": text, "schema": schema} for n, (text, schema) in _ANSWER_HEADERS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a token."},
                "basic": {"type": "http", "scheme": "basic", "description": "Any user name; the key as password."},
            },
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in shown)],
    }
    if server_url:
        made["servers"] = [{"url": server_url}]
    return made


def _types(routes: list[Route]) -> dict[str, Any]:
    """Every type that a body or an answer has, by its representation (types need not be hashable)."""
    found: dict[str, Any] = {}
    for route in routes:
        for kind in (route.body, route.response):
            if kind is not None:
                found[repr(kind)] = kind
    return found


def _operation(route: Route, places: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name, _ in _PARAMETER.findall(route.path)
    ]
    if route.query is not None:
        parameters += _query(route.query)
    names = ["X-Request-Id", "If-None-Match" if route.method == "GET" else "If-Match"]
    if route.method != "GET":
        names += ["X-Workflow-Id", "X-Task-Id"]
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "description": (route.handler.__doc__ or route.summary).strip(),
        "tags": [route.tag],
        "parameters": parameters + [{"$ref": f"#/components/parameters/{name}"} for name in names],
        "responses": _responses(route, places),
    }
    if route.scope is not None:
        operation["security"] = [{"bearer": []}, {"basic": []}]
        operation["x-scope"] = route.scope
    if route.body is not None or route.uploads:
        accepted: dict[str, Any] = {}
        if route.body is not None:
            accepted["application/json"] = {"schema": places[repr(route.body)]}
        for media in route.uploads:
            accepted[media] = {"schema": {"type": "object"} if media.startswith("multipart/") else {}}
        operation["requestBody"] = {"required": not route.body_optional, "content": accepted}
    return operation


def _responses(route: Route, places: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": route.summary, "headers": {"X-Request-Id": _header("X-Request-Id")}}
    if route.media is not None:
        answer["content"] = {route.media: {"schema": {}}}
    elif route.status != 204:
        data = places[repr(route.response)] if route.response is not None else {}
        meta = "PageMeta" if route.paged else "Meta"
        properties = {"data": data, "meta": {"$ref": f"#/components/schemas/{meta}"}}
        if route.paged:
            properties["pagination"] = {"type": "object", "required": list(_COUNTS), "properties": _COUNTS}
            answer["headers"]["Link"] = _header("Link")
        envelope = {"type": "object", "required": list(properties), "properties": properties}
        answer["content"] = {"application/json": {"schema": envelope}}
        if route.also is not None:
            answer["content"][route.also] = {"schema": {"type": "string"}}
        answer["headers"]["ETag"] = _header("ETag")
    if route.query is not None and "at" in route.query.__struct_fields__:
        answer["headers"]["Gitstore-At"] = _header("Gitstore-At")
    statuses = ["400", "404", "429", "500", "503"]
    if route.scope is not None:
        statuses += ["401", "403"]
    if route.body is not None or route.uploads:
        statuses += ["413", "415"]
    if route.body is not None or route.query is not None or route.uploads:
        statuses.append("422")
    statuses += ["412"] if route.scope is not None else []
    statuses += ["409"] if route.method != "GET" else []
    if route.media is not None and route.method == "GET":
        statuses.append("416")
    failures = {s: {"$ref": f"#/components/responses/{_ERRORS[s][0]}"} for s in sorted(statuses) if s in _ERRORS}
    return {str(route.status): answer, **failures}


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _query(kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """Query parameters of a Struct, in its order."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    _, components = msgspec.json.schema_components([kind], ref_template=_REF)
    properties = components[kind.__name__]["properties"]
    made = []
    for field in info.fields:
        schema = {
            key: value for key, value in properties[field.encode_name].items() if key != "default" or value is not None
        }
        options = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
        if len(options) == 1:  # a query has no null: the parameter is there or it is not
            schema = {**{key: value for key, value in schema.items() if key != "anyOf"}, **options[0]}
        made.append({"name": field.encode_name, "in": "query", "required": field.required, "schema": schema})
    return made


def _page_meta() -> dict[str, Any]:
    counts = {**_COUNTS, "pages": {"type": "integer"}, "has_more": {"type": "boolean"}}
    return {
        "type": "object",
        "required": [*_META["required"], *counts],
        "properties": {**_META["properties"], **counts},  # type: ignore[dict-item]
    }


def _error() -> dict[str, Any]:
    shown = {"code": {"type": "string"}, "message": {"type": "string"}, "details": {"type": "object"}}
    error = {"type": "object", "required": ["code", "message"], "properties": shown}
    return {
        "type": "object",
        "required": ["error", "meta"],
        "properties": {"error": error, "meta": {"$ref": "#/components/schemas/Meta"}},
    }


def _failure(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        "headers": {"X-Request-Id": _header("X-Request-Id")},
    }
