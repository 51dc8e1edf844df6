"""GET /openapi.json: the HTTP face as it is, made from the table of routes and the models."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

import graphflow

from ..http.answers import answer_made
from ..http.policies import READ
from ..http.route import TABLE, Route
from ..protocol.answers import Refusal

__all__ = ["ROUTES", "describe_routes"]

STREAM = "Server-sent events: `id` is the number of an event, `event` its type, `data` its data as JSON."
REFERENCE = "#/components/schemas/{model}"


async def get_openapi(request: web.Request) -> web.Response:
    routes = request.app[TABLE]
    return await answer_made(lambda: describe_routes(routes))


@cache
def describe_routes(routes: tuple[Route, ...]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    models = {model for route in routes for model in (route.body, route.messages) if model} | {Refusal}
    models |= {
        route.answer for route in routes if isinstance(route.answer, type) and issubclass(route.answer, BaseModel)
    }
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda item: item.__name__)], ref_template=REFERENCE
    )
    paths: dict[str, Any] = {}
    for route in routes:
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GraphFlow",
            "version": graphflow.__version__,
            "description": "Every path but those of pages, /internal, /health, /metrics is served under /api as well.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "responses": _responses(route),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in re.findall(r"\{(\w+)\}", path)
        ]
        + _parameters(route.query),
    }
    if route.messages is not None:
        operation["x-messages"] = _reference(route.messages)
    if route.policy.token:
        operation["security"] = [{"bearer": []}]
    if route.body is not None:
        content = {route.media: {"schema": _reference(route.body)}}
        operation["requestBody"] = {"required": route.body_required, "content": content}
    elif route.media != "application/json":
        schema = {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": False, "content": {route.media: {"schema": schema}}}
    return operation


def _responses(route: Route) -> dict[str, Any]:
    refused = {"description": "Refused", "content": {"application/json": {"schema": _reference(Refusal)}}}
    responses: dict[str, Any] = {"4XX": refused}
    if route.policy.writes:
        responses["503"] = {
            **refused,
            "description": "Not now: it is shutting down, or the machine has run out of something",
        }
        responses["507"] = {**refused, "description": "No space"}
    for status in route.statuses:
        responses[str(status)] = {"description": web.Response(status=status).reason or ""}
        if status == 200 and (route.answer is not None or route.produces != "application/json"):
            schema = _schema(route.answer) if route.answer is not None else {}
            responses["200"]["content"] = {route.produces: {"schema": schema}}
        if status == 200 and route.streams:
            responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string", "description": STREAM}}
    return responses


def _parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = TypeAdapter(model).json_schema(ref_template=REFERENCE)
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": item}
        for name, item in schema.get("properties", {}).items()
    ]


def _schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _reference(kind)
    return TypeAdapter(kind).json_schema(ref_template=REFERENCE)


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


ROUTES = (Route("GET", "/openapi.json", get_openapi, READ, "This description", answer=dict[str, Any], twin=False),)
