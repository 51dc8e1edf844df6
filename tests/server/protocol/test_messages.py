"""The models of messages and answers are true: they are held against what a server says of runs that end in every
way."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import get_args

import aiohttp
import pytest
from graphflow_server.live.hub import Hub
from graphflow_server.live.listener import Subscriber
from graphflow_server.live.outbox import Outbox
from graphflow_server.monitoring.logs import RecentLines
from graphflow_server.monitoring.metrics import Metrics
from graphflow_server.protocol import messages
from graphflow_server.protocol.answers import History, JobsPage, PromptState, QueueLists, WholeJob
from graphflow_server.protocol.messages import PromptEvents, SocketMessage
from graphflow_server.protocol.words import MESSAGE_TYPES
from pydantic import ValidationError

STEPS = {
    "1": {"class_type": "Steps", "inputs": {"text": "messages", "steps": 4, "seconds": 0.05}},
    "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
}
FAILS = {"1": {"class_type": "Misbehave", "inputs": {}}, "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}}}
LONG = {
    "1": {"class_type": "Steps", "inputs": {"text": "long", "steps": 600, "seconds": 0.05}},
    "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
}
TALKS = {"1": {"class_type": "Talk", "inputs": {"text": "hi"}}}


@pytest.fixture(scope="module")
def told(server):
    """Prompts that were done, failed, interrupted, run again and left waiting: their ids, and all that a websocket
    said."""
    return asyncio.run(asyncio.wait_for(_told(server), 60))


async def _told(server):
    said, ids = [], {}

    async def ask(method, path, body):
        answer = await asyncio.to_thread(server.ask, method, path, body)
        assert answer.status == 200, answer.body
        return answer

    async def hear(ws, until):
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                said.append(message.data)
                if until(json.loads(message.data)):
                    return

    def is_over(message):
        data = message["data"]
        return message["type"] == "executing" and data["node"] is None and data["prompt_id"] == ids[name]

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws?clientId=models") as ws:
        await ws.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        await ask("PATCH", "/internal/logs/subscribe", {"clientId": "models", "enabled": True})
        for name, graph in (("done", STEPS), ("again", STEPS), ("failed", FAILS), ("talked", TALKS), ("stopped", LONG)):
            body = {"prompt": graph, "client_id": "models"}
            ids[name] = (await ask("POST", "/prompt", body)).json["prompt_id"]
            if name == "stopped":
                ids["waiting"] = (await ask("POST", "/prompt", {"prompt": STEPS})).json["prompt_id"]
                await hear(ws, lambda message: message["type"] == "progress")
                shown = {path: (await asyncio.to_thread(server.get, path)).body for path in ("/queue", "/jobs")}
                await ask("POST", "/queue", {"delete": [ids["waiting"]]})
                await ask("POST", "/interrupt", {})
            await hear(ws, is_over)
    return ids, said, shown


def test_every_message_of_the_websocket_is_as_described_and_every_described_message_is_said(told):
    _, said, _ = told
    for text in said:
        SocketMessage.model_validate_json(text, strict=True)
    kinds = {json.loads(text)["type"] for text in said}
    assert kinds == (MESSAGE_TYPES - {"logs"}) | {"talking.said"}


def test_a_line_of_the_log_is_told_as_described():
    async def told_line():
        hub, recent = Hub(Metrics()), RecentLines()
        listener = Subscriber("reader", Outbox(10_000), logs=True)
        hub.add(listener)
        recent.on_line = hub.publish_log
        recent.emit(logging.LogRecord("graphflow", logging.INFO, "f", 1, "a line", (), None))
        return await listener.outbox.get()

    SocketMessage.model_validate_json(asyncio.run(told_line()), strict=True)


def test_a_message_that_is_not_as_described_does_not_pass_for_one_of_a_node():
    for kind, data in (("executed", {"node": "1"}), ("status", {}), ("own", 5), ("executing", {"node": None})):
        with pytest.raises(ValidationError):
            SocketMessage.model_validate({"type": kind, "data": data, "number": 1}, strict=True)


def test_events_states_history_queue_and_jobs_are_as_described(server, told):
    ids, _, shown = told
    for prompt_id in ids.values():
        events = server.get(f"/prompts/{prompt_id}/events")
        PromptEvents.model_validate_json(events.body, strict=True)
        assert events.json["last"] == len(events.json["events"]) > 0
        PromptState.model_validate_json(server.get(f"/prompts/{prompt_id}").body, strict=True)
        WholeJob.model_validate_json(server.get(f"/jobs/{prompt_id}").body, strict=True)
        History.model_validate_json(server.get(f"/history/{prompt_id}").body, strict=True)
    whole = server.get("/history")
    assert set(ids.values()) - {ids["waiting"]} <= set(whole.json)
    History.model_validate_json(whole.body, strict=True)
    queue = QueueLists.model_validate_json(shown["/queue"], strict=True)
    assert queue.queue_running[0][1] == ids["stopped"] and queue.queue_pending[0][1] == ids["waiting"]
    for body in (shown["/jobs"], server.get("/jobs").body):
        JobsPage.model_validate_json(body, strict=True)


def test_the_description_has_these_models_and_the_stream_of_events(server):
    document = server.get("/openapi.json").json
    schemas, paths = document["components"]["schemas"], document["paths"]

    def answer(path, media="application/json"):
        return paths[path]["get"]["responses"]["200"]["content"][media]["schema"]

    for path, name in (
        ("/queue", "QueueLists"),
        ("/history", "History"),
        ("/history/{prompt_id}", "History"),
        ("/prompts/{prompt_id}/events", "PromptEvents"),
        ("/jobs/{prompt_id}", "WholeJob"),
    ):
        assert answer(path) == {"$ref": f"#/components/schemas/{name}"} and name in schemas
    assert answer("/prompts/{prompt_id}/events", "text/event-stream")["type"] == "string"
    assert paths["/ws"]["get"]["x-messages"] == {"$ref": "#/components/schemas/SocketMessage"}
    text = json.dumps(document)
    for reference in set(text.split('"#/components/schemas/')[1:]):
        assert reference.partition('"')[0] in schemas


def test_a_stream_of_events_says_what_the_list_says(server, told):
    ids, _, _ = told
    path = f"/prompts/{ids['talked']}/events"
    stream = server.get(path, Accept="text/event-stream")
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    fields = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in stream.body.decode().split("\n\n")[:-1]
    ]
    streamed = [{"number": int(item["id"]), "type": item["event"], "data": json.loads(item["data"])} for item in fields]
    assert streamed == server.get(path).json["events"]


def test_the_types_that_a_node_may_not_use_are_those_of_the_protocol():
    groups = (messages.ServerMessage, messages.StateMessage, messages.PassingMessage)
    models = [model for group in groups for model in get_args(group)]
    assert {get_args(model.model_fields["type"].annotation)[0] for model in models} == MESSAGE_TYPES
