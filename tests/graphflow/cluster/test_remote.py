"""`gf.connect`: any server of ComfyUI's protocol as an engine."""

import asyncio
import os
import signal
import socket
import threading
import time

import pytest
from aiohttp import web

import graphflow as gf
from graphflow.events import NodeDone, NodeError, NodeStarted, Progress, RunDone, RunStarted

from .field_server import PICTURE, PREVIEW, FieldServer

WORKFLOW = gf.Workflow.from_json(
    {
        "1": {"class_type": "Anything", "inputs": {"x": 1}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Out"}},
        "version": 3,
    }
)


@pytest.fixture
def field():
    with FieldServer() as server:
        yield server


@pytest.fixture
def remote(field, tmp_path):
    return gf.connect(field.url, token="secret", output_dir=tmp_path, patience=2)


def codes(error):
    return [problem.code for problem in error.value.problems]


def test_a_run_gives_its_pictures_as_a_local_one_does(remote, field, tmp_path):
    result = remote.run(WORKFLOW)
    assert result["Out"].images[0].path == tmp_path / "a.png" and result["Out"].images[0]._repr_png_() == PICTURE
    assert set(result.timings) == {"1", "2"} and result.cached == ()
    assert remote.run(WORKFLOW).images == result.images, "the same file again is not written twice"


def test_what_is_sent_is_the_nodes_alone_with_the_token(remote, field):
    remote.run(WORKFLOW, targets=["Out"], run_id="mine", extra_pnginfo={"workflow": {"a": 1}})
    body = field.bodies[0]
    assert set(body["prompt"]) == {"1", "2"} and body["prompt_id"] == "mine"
    assert body["partial_execution_targets"] == ["2"]
    assert body["extra_data"] == {"extra_pnginfo": {"workflow": {"a": 1}}}
    assert field.headers[0]["Authorization"] == "Bearer secret"


def test_events_are_those_of_a_local_run_with_progress_and_previews(remote):
    events = []
    remote.run(WORKFLOW, on_event=events.append)
    kinds = [type(event) for event in events]
    assert kinds == [RunStarted, NodeStarted, Progress, Progress, Progress, NodeDone, NodeStarted, NodeDone, RunDone]
    assert [event.preview() for event in events if isinstance(event, Progress) and event.preview] == [PREVIEW, PREVIEW]
    assert events[0].nodes == ("1", "2") and events[-2].ui["images"] and events[-1].status == "done"


def test_events_can_be_awaited_one_by_one(remote):
    async def main():
        return [type(event) async for event in remote.stream(WORKFLOW)]

    assert asyncio.run(main())[-1] is RunDone


def test_a_sync_call_works_inside_a_running_loop_as_in_a_notebook(remote):
    async def main():
        return remote.run(WORKFLOW)

    assert asyncio.run(main()).images


def test_a_server_that_gives_ids_of_its_own_is_followed_all_the_same(remote, field):
    field.own_ids = True
    assert remote.run(WORKFLOW, run_id="mine").images


def test_a_connection_that_breaks_loses_neither_the_result_nor_the_end(remote, field):
    field.run = field.breaks
    events = []
    result = remote.run(WORKFLOW, on_event=events.append)
    assert result.images and isinstance(events[-1], RunDone) and events[-1].status == "done"
    started = [event.node for event in events if isinstance(event, NodeStarted)]
    assert started == ["1"] and sum(isinstance(event, RunStarted) for event in events) == 1


def test_a_run_may_be_submitted_and_asked_for_later(remote, field):
    run_id = remote.submit(WORKFLOW)

    async def events():
        return [event async for event in remote.events(run_id)]

    assert remote.result(run_id).images
    assert asyncio.run(events())[-1].status == "done"
    other = gf.connect(field.url, output_dir=remote.output_dir)
    assert other.result(run_id)["Out"].images


def test_a_node_that_fails_there_is_a_node_that_failed(remote, field):
    field.run = field.fails
    events = []
    with pytest.raises(gf.NodeFailed, match="ValueError: boom") as error:
        remote.run(WORKFLOW, on_event=events.append)
    assert error.value.problems[0].node == "1" and len(error.value.problems) == 1
    assert [event.node for event in events if isinstance(event, NodeError)] == ["1"] and events[-1].status == "failed"


def test_all_problems_of_a_refused_workflow_are_told(remote, field):
    errors = {
        "1": {
            "class_type": "Anything",
            "dependent_outputs": ["2"],
            "errors": [
                {
                    "type": "value_bigger_than_max",
                    "message": "Value 500 bigger than max of 100",
                    "details": "x",
                    "extra_info": {"input_name": "x"},
                }
            ],
        }
    }
    error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": ""}
    field.answer = lambda body: web.json_response({"error": error, "node_errors": errors}, status=400)
    with pytest.raises(gf.InvalidWorkflow) as refused:
        remote.run(WORKFLOW)
    (problem,) = refused.value.problems
    assert (problem.code, problem.node, problem.input) == ("value_bigger_than_max", "1", "x")
    field.answer = lambda body: web.json_response(
        {"error": {"type": "invalid_prompt", "message": "no such node", "details": "#3"}, "node_errors": {}}, status=400
    )
    with pytest.raises(gf.InvalidWorkflow, match=r"no such node \(#3\)"):
        remote.run(WORKFLOW)


def test_a_workflow_of_which_only_a_part_could_run_is_refused_and_stopped(remote, field):
    errors = {"1": {"class_type": "Anything", "errors": [{"type": "required_input_missing", "message": "Missing"}]}}
    field.answer = lambda body: web.json_response({"prompt_id": "half", "number": 1, "node_errors": errors})
    with pytest.raises(gf.InvalidWorkflow) as error:
        remote.run(WORKFLOW)
    assert codes(error) == ["required_input_missing"] and field.interrupted == ["half"]


def test_cancel_stops_the_run_there(remote, field):
    field.run = field.waits
    flag, events = threading.Event(), []

    def listen(event):
        events.append(event)
        flag.set()

    with pytest.raises(gf.Cancelled):
        remote.run(WORKFLOW, on_event=listen, cancel=flag)
    assert len(field.interrupted) == 1 and events[-1].status == "cancelled"


@pytest.mark.parametrize("seconds", [0, 0.5], ids=["at once", "in a thread that starts slowly"])
def test_an_interrupt_in_a_notebook_stops_the_run_there(remote, field, monkeypatch, seconds):
    field.run = field.waits
    events = []
    start = threading.Thread.start

    def start_slowly(thread):
        start(thread)
        time.sleep(seconds)

    def listen(event):
        events.append(event)
        if len(events) == 1:  # who interrupts twice does not wait for the server
            os.kill(os.getpid(), signal.SIGINT)

    async def main():
        remote.run(WORKFLOW, on_event=listen)

    loop = asyncio.new_event_loop()
    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()
    assert len(field.interrupted) == 1


def test_leaving_the_loop_of_events_cancels_the_run_there(remote, field):
    field.run = field.waits

    async def main():
        stream = remote.stream(WORKFLOW)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(main())
    assert len(field.interrupted) == 1


def test_an_error_in_the_listener_is_the_callers_and_stops_the_run_there(remote, field):
    field.run = field.waits

    def listen(event):
        raise KeyError("in the listener")

    with pytest.raises(KeyError, match="in the listener"):
        remote.run(WORKFLOW, on_event=listen)
    assert len(field.interrupted) == 1


def test_a_run_that_the_server_has_lost_is_said_to_be_lost(remote, field):
    field.run = field.loses
    with pytest.raises(gf.GraphFlowError) as error:
        remote.run(WORKFLOW)
    assert codes(error) == ["lost"]


def test_a_server_that_is_still_starting_is_waited_for(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    late = FieldServer(port=port)
    timer = threading.Timer(0.7, late.__enter__)
    timer.start()
    try:
        assert gf.connect(f"http://127.0.0.1:{port}", output_dir=tmp_path).run(WORKFLOW)["Out"].ui
    finally:
        timer.join()
        late.__exit__(None, None, None)


def test_no_server_a_wrong_address_and_a_missing_picture_are_problems(remote, tmp_path):
    with pytest.raises(gf.GraphFlowError, match="no server answers at") as error:
        gf.connect("http://127.0.0.1:9", output_dir=tmp_path, patience=0.2).run(WORKFLOW)
    assert codes(error) == ["unreachable"]
    with pytest.raises(gf.InvalidWorkflow, match="not the address"):
        gf.connect("127.0.0.1:8188")
    with pytest.raises(gf.GraphFlowError) as error:
        remote.fetch("not/there.png")
    assert codes(error) == ["no_file"]
    with pytest.raises(gf.GraphFlowError) as error:
        remote.validate(WORKFLOW)
    assert codes(error) == ["not_offered"], "other servers judge a workflow only when it is queued"
    with pytest.raises(gf.GraphFlowError) as error:
        remote.upload(tmp_path / "none.png")
    assert codes(error) == ["no_image"]


def test_pictures_are_sent_and_fetched(remote, field, tmp_path):
    (tmp_path / "in.png").write_bytes(PICTURE)
    assert remote.upload(tmp_path / "in.png") == "sub/in.png"
    assert field.uploads == [("in.png", PICTURE)] and remote.fetch("a.png") == PICTURE


@pytest.mark.parametrize("name", ["../up.png", "/etc/cron.d/x", "..", "C:\\x.png", "a\\..\\b"])
def test_a_server_cannot_name_a_file_outside_of_the_folder(remote, field, tmp_path, name):
    field.filename = name
    with pytest.raises(gf.GraphFlowError) as error:
        remote.run(WORKFLOW)
    assert codes(error) == ["bad_name"] and not any(tmp_path.iterdir())


def test_another_file_of_the_same_name_is_kept_beside(remote, tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    assert remote.run(WORKFLOW).images[0].path.name == "a (1).png"
    assert (tmp_path / "a.png").read_bytes() == b"mine"
