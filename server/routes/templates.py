"""The workflows that ship with the node library, as templates of the web editor."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from graphflow import Engine, Problem, Workflow
from graphflow.spi import (
    RegistryInfos,
    from_workflow,
    read,
    shipped_groups,
    shipped_names,
    shipped_text,
    shipped_thumbnail,
    to_svg,
)

from ..http.answers import answer, answer_made
from ..http.policies import READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..queue import Prompt
from ..state import STATE

__all__ = ["ROUTES"]

OF_A_JOB = "job-"
DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


async def index(request: web.Request) -> web.Response:
    """The templates, as the editor's dialog lists them."""
    return answer(
        [
            {
                "moduleName": "default",
                "title": group.title,
                "type": "image",
                "templates": [
                    {
                        "name": item.name,
                        "title": item.title,
                        "description": item.description,
                        "mediaType": "image",
                        "mediaSubtype": "webp",
                    }
                    for item in group.workflows
                ],
            }
            for group in shipped_groups()
        ]
    )


async def logos(request: web.Request) -> web.Response:
    return answer({})


async def template(request: web.Request) -> web.Response:
    """A workflow in the format of the editor: a shipped one, or that of a prompt, `job-ID`, so that a link opens it."""
    engine, name = request.app[STATE].engine, request.match_info["name"]
    if name.startswith(OF_A_JOB):
        prompt = await request.app[STATE].queue.get(name.removeprefix(OF_A_JOB))
        if prompt is None:
            raise RequestRefused(404, Problem("no_prompt", "there is no such prompt"))
        return await answer_made(lambda: _of_job(prompt, engine))
    workflow = _workflow(name)
    return await answer_made(lambda: _written(workflow, engine))


async def thumbnail(request: web.Request) -> web.Response:
    """The result of the workflow as a small image; a drawing of it where its models do not ship."""
    made = shipped_thumbnail(request.match_info["name"]) if request.match_info["name"] in shipped_names() else None
    if made is not None:
        return web.Response(body=made, content_type="image/webp", headers={"Cache-Control": "no-cache"})
    engine, workflow = request.app[STATE].engine, _workflow(request.match_info["name"])
    headers = {"Content-Security-Policy": DRAWING_POLICY}
    return web.Response(text=to_svg(workflow, engine.registry), content_type="image/svg+xml", headers=headers)


def _workflow(name: str) -> Workflow:
    if name not in shipped_names():
        raise RequestRefused(404, Problem("no_template", "there is no such template"))
    return Workflow.loads(shipped_text(name))


def _of_job(prompt: Prompt, engine: Engine) -> dict[str, Any]:
    """The document that the editor sent with it, or one made from its nodes."""
    pnginfo = prompt.extra.get("extra_pnginfo")
    sent = pnginfo.get("workflow") if isinstance(pnginfo, dict) else None
    return sent if isinstance(sent, dict) else _written(read(prompt.workflow)[0], engine)


def _written(workflow: Workflow, engine: Engine) -> dict[str, Any]:
    return from_workflow(workflow, RegistryInfos(engine.registry, engine.settings)).data


ROUTES = (
    Route("GET", "/templates/index.json", index, READ, "Templates of the editor", answer=list[Any], twin=False),
    Route(
        "GET", "/templates/index_logo.json", logos, READ, "Logos of templates: none", answer=dict[str, Any], twin=False
    ),
    Route("GET", "/templates/{name:[^/]+}.json", template, READ, "A template", answer=dict[str, Any], twin=False),
    Route(
        "GET",
        "/templates/{name:[^/]+}-1.webp",
        thumbnail,
        READ,
        "What a template gives",
        produces="image/webp",
        twin=False,
    ),
)
