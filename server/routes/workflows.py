"""Workflows, their work items and tasks: light records, so that evidence has a place."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from gitstore import names, values, workflows
from gitstore.model import Task, Workflow, WorkItem
from gitstore.work import TaskNew
from server.call import Call
from server.http import API, Page, Reply, Route
from server.routes import common
from server.shapes import workflows as shapes
from server.shapes.workflows import CreateWorkflow, ListWorkflows, PlanWorkflow, PutTask, PutWorkItem, UpdateWorkflow


def _shown(call: Call, workspace: str, workflow: Workflow) -> bytes:
    tasks = call.app.store.catalog.tasks_of(workflow.id, workspace)
    return values.encode(workflows.workflow_json(workflow, tasks, workspace))


def _one(call: Call, workspace: str, workflow: Workflow, status: int = 200) -> Reply:
    data = _shown(call, workspace, workflow)
    return Reply(data, status=status, etag=values.etag(data))


async def create(call: Call) -> Reply:
    """A workflow with its work items and tasks, in one commit."""
    body: CreateWorkflow = call.body
    items = tuple(
        WorkItem(item.id or names.new_id(), item.title, item.stage_name, item.state) for item in body.work_items
    )
    fields = {
        name: value
        for name, value in common.given(body).items()
        if name not in ("work_items", "tasks") and value is not None
    }
    tasks = tuple(
        TaskNew(
            task.id or names.new_id(),
            workflows.TaskPut(
                title=task.title, role=task.role, stage_name=task.stage_name, state=task.state,
                work_item_id=task.work_item_id,
            ),
        )
        for task in body.tasks
    )  # fmt: skip
    found = await common.workspace(call)
    pending = call.app.work.create_workflow(
        found.id, workflows.New(**fields, work_items=items), call.provenance, tasks=tasks
    )
    outcome = await call.settle(pending)
    return _one(call, found.id, outcome.value, 201)


async def plan(call: Call) -> Reply:
    """A workflow that plans the workspace's work from a brief."""
    body: PlanWorkflow = call.body
    found = await common.workspace(call)
    outcome = await call.settle(call.app.work.planning(found.id, body.brief, body.name, call.provenance))
    return _one(call, found.id, outcome.value, 201)


def _list(call: Call, workspace: str) -> Reply:
    query: ListWorkflows = call.query
    catalog = call.app.store.catalog
    if query.state is None:
        rows, total = catalog.workflow_page(workspace, query.page, query.per_page)
    else:
        every = [one for one in catalog.workflows(workspace) if one.state == query.state]
        total, start = len(every), (query.page - 1) * query.per_page
        rows = every[start : start + query.per_page]
    data = b"[" + b",".join(_shown(call, workspace, row) for row in rows) + b"]"
    return Reply(data, page=Page(query.page, query.per_page, total))


async def list_all(call: Call) -> Reply:
    """The workspace's workflows, newest first."""
    found = await common.workspace(call)
    return await call.offload(_list, call, found.id)


def read(call: Call) -> Reply:
    """One workflow."""
    workspace, workflow = call.app.work.workflow(call.params["id"])
    return _one(call, workspace, workflow)


def _set(body: msgspec.Struct, kind: type[Any]) -> Any:
    fields = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    return kind(**fields)


async def update(call: Call) -> Reply:
    """Changes name, state, metadata or context; times follow the state."""
    patch = _set(call.body, workflows.Patch)
    workspace, _ = call.app.work.workflow(call.params["id"])
    pending = call.app.work.update_workflow(call.params["id"], patch, call.provenance, call.precondition)
    return _one(call, workspace, (await call.settle(pending)).value)


async def put_work_item(call: Call) -> Reply:
    """Adds a work item or changes it."""
    put = _set(call.body, workflows.ItemPut)
    workspace, _ = call.app.work.workflow(call.params["id"])
    who, precondition = call.provenance, call.precondition
    pending = call.app.work.put_work_item(call.params["id"], call.params["item"], put, who, precondition)
    return _one(call, workspace, (await call.settle(pending)).value)


async def put_task(call: Call) -> Reply:
    """Adds a task or changes it."""
    put = _set(call.body, workflows.TaskPut)
    who, precondition = call.provenance, call.precondition
    pending = call.app.work.put_task(call.params["id"], call.params["task"], put, who, precondition)
    task: Task = (await call.settle(pending)).value
    return Reply(workflows.task_json(task), etag=workflows.task_etag(task))


_ALL = f"{API}/workspaces/{{id}}/workflows"
_ONE = f"{API}/workflows/{{id}}"
ROUTES = (
    Route("GET", _ALL, "agent", list_all, "List workflows", query=ListWorkflows, response=list[shapes.Workflow],
          paged=True, tag="workflows"),
    Route("POST", _ALL, "agent", create, "Make a workflow", body=CreateWorkflow, response=shapes.Workflow, status=201,
          tag="workflows"),
    Route("POST", f"{API}/workspaces/{{id}}/planning-workflow", "admin", plan, "Plan the workspace's work",
          body=PlanWorkflow, response=shapes.Workflow, status=201, tag="workflows"),
    Route("GET", _ONE, "agent", read, "Read a workflow", response=shapes.Workflow, tag="workflows"),
    Route("PATCH", _ONE, "agent", update, "Change a workflow", body=UpdateWorkflow, response=shapes.Workflow,
          tag="workflows"),
    Route("PUT", f"{_ONE}/work-items/{{item}}", "agent", put_work_item, "Put a work item", body=PutWorkItem,
          response=shapes.Workflow, tag="workflows"),
    Route("PUT", f"{_ONE}/tasks/{{task}}", "agent", put_task, "Put a task", body=PutTask, response=shapes.Task,
          tag="workflows"),
)  # fmt: skip
