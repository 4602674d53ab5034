from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from gitstore import errors
from server.shapes import artifacts, common, files, keys, remotes, spec, timeline, workflows, workspaces
from server.validation import Query, convert


def faults(value: Any, kind: Any) -> dict[str, str]:
    with pytest.raises(errors.WrongShape) as caught:
        convert(value, kind)
    return dict(caught.value.faults)


def query(kind: Any, text: str) -> Any:
    made, found = Query(kind).read(text)
    return dict(found) if made is None else made


class Inner(msgspec.Struct):
    n: Annotated[int, Meta(ge=1)]
    tags: list[Annotated[str, Meta(min_length=1)]] = []


class Outer(common.Shape):
    name: Annotated[str, Meta(min_length=1, max_length=3, pattern="^[a-z]*$")]
    inner: Inner
    kind: Literal["a", "b"] = "a"
    rest: dict[str, int] = msgspec.field(default_factory=dict)
    maybe: float | None = None


class TestFaults:
    def test_all_at_once_with_pointers(self):
        found = faults(
            {
                "name": "ABCD",
                "inner": {"n": 0, "tags": ["", 1]},
                "kind": "c",
                "rest": {"x/y~z": "1"},
                "maybe": "2",
            },
            Outer,
        )
        assert set(found) == {"/name", "/inner/n", "/inner/tags/0", "/inner/tags/1", "/kind", "/rest/x~1y~0z", "/maybe"}
        assert "a, b" in found["/kind"]
        assert found["/maybe"] == "expected a number or null, got text"
        assert found["/rest/x~1y~0z"] == "expected an integer, got text"

    def test_what_is_missing(self):
        assert faults({}, Outer) == {"/name": "is required", "/inner": "is required"}

    def test_two_faults_of_one_value_are_both_told(self):
        with pytest.raises(errors.WrongShape) as caught:
            convert({"name": "ABCD", "inner": {"n": 1}}, Outer)
        assert [pointer for pointer, _ in caught.value.faults] == ["/name", "/name"]
        assert set(caught.value.details["issues"]["fieldErrors"]) == {"name"}

    def test_not_an_object(self):
        assert faults([], Outer) == {"": "expected an object, got an array"}
        assert faults(None, Outer) == {"": "expected an object, got null"}

    @pytest.mark.parametrize("value", [True, "1", 1.5, None, [], {}])
    def test_only_an_integer_is_an_integer(self, value):
        assert "/inner/n" in faults({"name": "a", "inner": {"n": value}}, Outer)

    def test_unknown_fields_are_ignored(self):
        assert convert({"name": "a", "inner": {"n": 1}, "later": [1]}, Outer).name == "a"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["name", "inner", "kind", "rest", "maybe", "n", "tags", "z"]), inner)
            ),
        )
    )
    def test_whatever_is_refused_is_refused_with_a_fault(self, value):
        try:
            convert(value, Outer)
            found = [("", "none")]
        except errors.WrongShape as error:
            found = error.faults
        assert found
        assert all(text and (pointer == "" or pointer.startswith("/")) for pointer, text in found)


class TestQuery:
    def test_defaults(self):
        made = query(common.Paging, "")
        assert (made.page, made.per_page) == (1, 20)

    def test_values(self):
        made = query(common.Paging, "page=3&per_page=100&other=%F0%9F%98%80")
        assert (made.page, made.per_page) == (3, 100)

    @pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x", "1e3", "+1", " 1", "1_0", "٣", "0x1", "true", "null"])
    def test_a_page_is_a_whole_number_from_1(self, text):
        from urllib.parse import quote

        assert set(query(common.Paging, f"page={quote(text)}")) == {"/page"}

    def test_both_faults(self):
        assert set(query(common.Paging, "page=x&per_page=101")) == {"/page", "/per_page"}

    def test_twice_is_a_fault(self):
        assert query(common.Paging, "page=1&page=2") == {"/page": "is given more than once"}

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
    def test_booleans(self, text, value):
        assert query(workspaces.ListWorkspaces, f"is_active={text}").is_active is value

    @pytest.mark.parametrize("text", ["", "yes", "True", "2", "null"])
    def test_not_booleans(self, text):
        assert set(query(workspaces.ListWorkspaces, f"is_active={text}")) == {"/is_active"}

    def test_text_is_decoded_as_forms_are(self):
        assert query(workspaces.ListWorkspaces, "q=a+b%2Bc%25&&=x").q == "a b+c%"
        assert query(workspaces.ListWorkspaces, "q=").q == ""

    def test_a_number_stays_text_where_text_is_asked(self):
        assert query(workspaces.ListWorkspaces, "q=12").q == "12"

    @pytest.mark.parametrize("text", ["q=%FF", "q=a%00b", "%C3=1", "q=%ED%A0%80"])
    def test_not_text(self, text):
        with pytest.raises(errors.Malformed):
            Query(workspaces.ListWorkspaces).read(text)

    @pytest.mark.parametrize("text", ["-1", "0", "7", "9" * 30, "-" + "9" * 5000])
    def test_a_version_may_be_beyond_everything(self, text):
        version = query(spec.ReadSpec, f"version={text}").version
        assert version == int(text[:20]) or abs(version) == 10**15
        assert (version < 0) == text.startswith("-")

    @pytest.mark.parametrize("text", ["1.5", "", "x", "1.0"])
    def test_a_version_is_an_integer(self, text):
        assert set(query(spec.ReadSpec, f"version={text}")) == {"/version"}

    def test_the_explorer(self):
        found = query(artifacts.ExploreArtifacts, f"q={'x' * 201}&page=10001&sort=best&preview_mode=all")
        assert set(found) == {"/q", "/page", "/sort", "/preview_mode"}
        assert query(artifacts.ExploreArtifacts, f"q={'x' * 200}&page=10000&sort=name").sort == "name"

    @given(st.text(max_size=40))
    def test_any_query_string_is_answered(self, text):
        try:
            query(workspaces.ListWorkspaces, text.encode("utf-8", "replace").decode())
        except errors.Malformed:
            assert re.search("%|\0", text)


class TestBodies:
    def test_create(self):
        assert faults({}, workspaces.CreateWorkspace) == {"/name": "is required", "/slug": "is required"}
        found = faults(
            {"name": "", "slug": "x" * 101, "description": "x" * 2001, "settings": [], "memory": 1},
            workspaces.CreateWorkspace,
        )
        assert set(found) == {"/name", "/slug", "/description", "/settings", "/memory"}
        whole = {"name": "😀" * 255, "slug": "x" * 100, "description": "x" * 2000, "repository_url": None}
        assert convert(whole, workspaces.CreateWorkspace).settings == {}

    def test_objects_keep_order_and_numbers(self):
        sent = {"z": 10**40, "a": [1.0, 1], "m": None}
        made = convert({"name": "n", "slug": "s", "settings": sent}, workspaces.CreateWorkspace)
        assert made.settings == sent
        assert list(made.settings) == list(sent)
        assert [type(each) for each in made.settings["a"]] == [float, int]

    def test_update_needs_one_field(self):
        assert set(faults({}, workspaces.UpdateWorkspace)) == {""}
        assert set(faults({"other": 1}, workspaces.UpdateWorkspace)) == {""}
        assert set(faults({"name": None}, workspaces.UpdateWorkspace)) == {"/name"}
        made = convert({"description": None}, workspaces.UpdateWorkspace)
        assert made.description is None
        assert made.name is msgspec.UNSET

    def test_memory(self):
        assert convert({"key": "k", "value": None}, workspaces.SetMemory).value is None
        assert faults({"key": "k"}, workspaces.SetMemory) == {"/value": "is required; null is a value"}
        assert set(faults({}, workspaces.SetMemory)) == {"/key", "/value"}
        assert set(faults({"key": "", "value": 1}, workspaces.SetMemory)) == {"/key"}
        assert set(faults({"key": "x" * 257, "value": 1}, workspaces.SetMemory)) == {"/key"}
        assert convert({"key": "😀" * 256, "value": 1}, workspaces.SetMemory).key == "😀" * 256
        assert convert({"updates": {"a": None}}, workspaces.SetMemory).updates == {"a": None}
        assert set(faults({"updates": {"": 1, "x" * 257: 1}}, workspaces.SetMemory)) == {
            "/updates/",
            f"/updates/{'x' * 257}",
        }
        assert set(faults({"updates": {"a": 1}, "key": "k"}, workspaces.SetMemory)) == {""}

    def test_spec(self):
        assert set(faults({"resources": [], "tools": None}, spec.PutSpec)) == {"/resources", "/tools"}
        assert convert({}, spec.PutSpec).config is msgspec.UNSET

    def test_files(self):
        assert set(faults({}, files.UploadFile)) == {"/file_name", "/content_base64"}
        assert set(faults({"file_name": "a", "content_base64": "", "key": "x" * 121}, files.UploadFile)) == {"/key"}
        assert set(faults({"files": [{}, 1]}, files.UploadFiles)) == {
            "/files/0/file_name",
            "/files/0/content_base64",
            "/files/1",
        }
        assert set(faults({"files": []}, files.UploadFiles)) == {"/files"}

    def test_artifacts(self):
        body = {"path": "x" * 1025, "content_base64": 1, "metadata": [], "task_id": ""}
        assert set(faults(body, artifacts.UploadArtifact)) == {"/path", "/content_base64", "/metadata", "/task_id"}

    def test_workflows(self):
        assert set(faults({"brief": ""}, workflows.PlanWorkflow)) == {"/brief"}
        assert set(faults({"brief": "x" * 20001, "name": "x" * 256}, workflows.PlanWorkflow)) == {"/brief", "/name"}
        assert set(faults({"state": "done"}, workflows.UpdateWorkflow)) == {"/state"}
        assert set(faults({"state": "claimed2"}, workflows.PutTask)) == {"/state"}
        assert set(faults({"name": "n", "tasks": [{"id": "t"}]}, workflows.CreateWorkflow)) == {"/tasks/0/title"}

    def test_verify(self):
        replace = {"repository_url": "https://x", "git_token_mode": "replace"}
        assert set(faults(replace, remotes.VerifyAccess)) == {"/git_token"}
        assert set(faults({**replace, "git_token": "  "}, remotes.VerifyAccess)) == {"/git_token"}
        assert convert({**replace, "git_token": "t"}, remotes.VerifyAccess).git_token == "t"
        assert set(faults({"git_token_mode": "x"}, remotes.VerifyAccess)) == {"/repository_url", "/git_token_mode"}

    def test_keys(self):
        assert set(faults({"scope": "root", "name": ""}, keys.CreateKey)) == {"/scope", "/name"}

    def test_timeline_kinds_are_those_of_the_model(self):
        assert set(query(timeline.ReadTimeline, "kind=nothing.happened")) == {"/kind"}
        assert query(timeline.ReadTimeline, "kind=memory.updated").kind == "memory.updated"
