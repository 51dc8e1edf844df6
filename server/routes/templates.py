"""The workflows that ship with the node library, as templates of the web editor."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from graphflow import Engine, Problem, Workflow
from graphflow.spi import RegistryInfos, from_workflow, shipped_names, shipped_text, to_svg

from ..http.answers import answer, answer_made
from ..http.policies import READ
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..state import STATE

__all__ = ["ROUTES"]

DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


async def index(request: web.Request) -> web.Response:
    """The templates, as the editor's dialog lists them."""
    listed = [
        {
            "name": name,
            "title": name.replace("_", " ").capitalize(),
            "description": "",
            "mediaType": "image",
            "mediaSubtype": "webp",
        }
        for name in shipped_names()
    ]
    return answer([{"moduleName": "default", "title": "GraphFlow", "type": "image", "templates": listed}])


async def logos(request: web.Request) -> web.Response:
    return answer({})


async def template(request: web.Request) -> web.Response:
    """A workflow in the format of the editor."""
    engine, workflow = request.app[STATE].engine, _workflow(request.match_info["name"])
    return await answer_made(lambda: _written(workflow, engine))


async def drawing(request: web.Request) -> web.Response:
    """A drawing of the workflow, where the editor looks for an image of its result."""
    engine, workflow = request.app[STATE].engine, _workflow(request.match_info["name"])
    headers = {"Content-Security-Policy": DRAWING_POLICY}
    return web.Response(text=to_svg(workflow, engine.registry), content_type="image/svg+xml", headers=headers)


def _workflow(name: str) -> Workflow:
    if name not in shipped_names():
        raise RequestRefused(404, Problem("no_template", "there is no such template"))
    return Workflow.loads(shipped_text(name))


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
        drawing,
        READ,
        "A drawing of a template",
        produces="image/svg+xml",
        twin=False,
    ),
)
