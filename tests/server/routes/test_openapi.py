"""GET /openapi.json describes the HTTP face truly: schemathesis asks for whatever it allows, and more, and reads the
answers.

A short form of `python -m benchmarks.fuzz`.
"""

from __future__ import annotations

import re

import schemathesis
from graphflow_server.routes.table import ROUTES
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.fuzz import without_tuples

CHECKED = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SOCKETS = {"/ws"}


def test_every_route_is_described(server):
    document = server.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    described = {(method, path) for path, found in document["paths"].items() for method in found}
    assert described == {(route.method.lower(), re.sub(r":[^}]*\}", "}", route.path)) for route in ROUTES}
    prompt = document["paths"]["/prompt"]["post"]
    assert prompt["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/PromptBody"}
    assert prompt["responses"]["4XX"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Refusal"
    }
    assert document["paths"]["/health"]["get"].get("security") is None and prompt["security"] == [{"bearer": []}]


def test_whatever_is_asked_the_answer_is_as_described_and_never_a_5xx(serve):
    with serve(paused=True, limits={"wait_seconds": 0.05, "read_seconds": 5.0}) as server:
        schema = schemathesis.openapi.from_dict(without_tuples(server.get("/openapi.json").json))
        operations = [found.ok() for found in schema.get_all_operations()]
        asked = [operation for operation in operations if operation.path not in SOCKETS]
        assert len(asked) > 50
        for operation in asked:

            @settings(
                max_examples=5,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(
                case=operation.as_strategy()
                | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
            )
            def check(case):
                response = case.call(base_url=server.url, timeout=120)  # a machine may be busy
                case.validate_response(response, checks=CHECKED)

            check()
        assert server.get("/health").json["status"] == "ok"
