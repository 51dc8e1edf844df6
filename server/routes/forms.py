"""Forms: the shipped workflows, and any workflow file, with the inputs that people change most."""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from typing import Any

from aiohttp import web

from graphflow import InvalidWorkflow, Workflow
from graphflow.spi import RegistryInfos, ShippedWorkflow, read, read_content, shipped_groups, shipped_text

from ..checks.acceptance import examine
from ..checks.forms import form_of
from ..http.answers import answer_made
from ..http.policies import READ, UPLOAD
from ..http.refusal import RequestRefused, problems_json
from ..http.route import Route
from ..protocol.answers import WorkflowForm
from ..protocol.requests import FormUpload
from ..state import STATE, ServerState
from .files import read_form

__all__ = ["ROUTES"]


async def list_forms(request: web.Request) -> web.Response:
    """The shipped workflows in the order of the template dialog, each with its form and what keeps it from running."""
    state = request.app[STATE]
    return await answer_made(lambda: [_shipped(item, state) for group in shipped_groups() for item in group.workflows])


async def form_of_file(request: web.Request) -> web.Response:
    """The form of a workflow file: JSON in the API format or the editor's, or an image that carries one."""
    state = request.app[STATE]
    data, fields = await read_form(request, state.options.limits, "file")
    name = fields["filename"] or "the file"

    def made() -> dict[str, Any]:
        content = read_content(data, name)
        workflow, _ = read(content.data, RegistryInfos(state.engine.registry, state.engine.settings))
        stem = PurePath(name).stem
        return _form(ShippedWorkflow(stem, stem), workflow, state)

    try:
        found = await asyncio.to_thread(made)
    except InvalidWorkflow as error:
        raise RequestRefused(400, error.problems, kind="no_workflow") from None
    return await answer_made(lambda: found)


def _shipped(about: ShippedWorkflow, state: ServerState) -> dict[str, Any]:
    return _form(about, Workflow.loads(shipped_text(about.name)), state)


def _form(about: ShippedWorkflow, workflow: Workflow, state: ServerState) -> dict[str, Any]:
    api = workflow.to_json()
    try:
        problems = examine(state.engine, api, None, state.options.limits).problems
    except RequestRefused as refused:
        problems = tuple(refused.problems)
    return {
        "name": about.name,
        "title": about.title,
        "description": about.description,
        "workflow": api,
        "fields": form_of(workflow, state.engine),
        "problems": problems_json(problems, most=len(problems)),
    }


ROUTES = (
    Route("GET", "/forms", list_forms, READ, "The shipped workflows as forms", answer=list[WorkflowForm]),
    Route(
        "POST",
        "/forms",
        form_of_file,
        UPLOAD,
        "The form of a workflow file",
        body=FormUpload,
        media="multipart/form-data",
        answer=WorkflowForm,
    ),
)
