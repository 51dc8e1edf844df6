"""POST /prompt and what follows: what a client of ComfyUI may rely on."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from pathlib import Path

import pytest
from graphflow_server.queue import ledger, upkeep
from PIL import Image

from graphflow.cli import main


def slow(seconds: float, text: str = "slow") -> dict:
    return {"1": {"class_type": "Write", "inputs": {"text": text, "seconds": seconds}}}


def until_running(server, prompt_id, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = server.get(f"/prompts/{prompt_id}").json["state"]
        if state == "running":
            return
        time.sleep(0.02)
    raise AssertionError(f"still {state}")


def test_a_prompt_is_accepted_runs_and_is_in_the_history(server, graph):
    accepted = server.post("/prompt", {"prompt": graph(3), "client_id": "me"})
    assert accepted.status == 200
    assert accepted.json["node_errors"] == {}
    prompt_id = accepted.json["prompt_id"]
    assert str(uuid.UUID(prompt_id)) == prompt_id
    assert server.get(f"/prompts/{prompt_id}/events?wait=20").status == 200
    result = server.run(graph(3), prompt_id="named-by-me")
    entry = server.get("/history/named-by-me").json["named-by-me"]
    assert result["state"] == "done" and entry["outputs"] == {"2": {"value": [3]}}
    assert entry["status"]["status_str"] == "success" and entry["status"]["completed"] is True
    number, found_id, workflow, extra, outputs = entry["prompt"]
    assert (found_id, workflow, outputs) == ("named-by-me", graph(3), ["2"])
    assert number == result["number"] and isinstance(extra, dict)
    assert [kind for kind, _ in entry["status"]["messages"]][-1] == "execution_success"


def test_every_route_of_the_api_is_there_with_and_without_the_prefix(server, graph):
    assert server.post("/api/prompt", {"prompt": graph(4)}).status == 200
    for path in ("/queue", "/history", "/prompt", "/object_info", "/system_stats", "/features", "/jobs", "/settings"):
        assert server.get(path).status == server.get(f"/api{path}").status == 200, path


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/octet-stream", "application/json; charset=x"])
def test_a_program_may_post_a_prompt_with_any_content_type_or_none(server, graph, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    assert server.ask("POST", "/prompt?clientId=x", {"prompt": graph(5)}, headers).status == 200


def test_history_of_a_prompt_is_empty_until_it_has_ended_and_written_before_the_end_is_told(server):
    prompt_id = server.post("/prompt", {"prompt": slow(0.5), "client_id": "h"}).json["prompt_id"]
    until_running(server, prompt_id)
    assert server.get(f"/history/{prompt_id}").json == {}
    assert server.get("/history/no-such-prompt").json == {}
    since = 0
    while True:
        for event in server.get(f"/prompts/{prompt_id}/events?since={since}&wait=10").json["events"]:
            since = event["number"]
            if event["type"] == "execution_success":
                assert prompt_id in server.get(f"/history/{prompt_id}").json
                return


def test_the_queue_shows_what_runs_and_what_waits(server, graph):
    first = server.post("/prompt", {"prompt": slow(30, "a")}).json["prompt_id"]
    until_running(server, first)
    second = server.post("/prompt", {"prompt": graph(6), "extra_data": {"extra_pnginfo": {"workflow": {"a": 1}}}}).json
    front = server.post("/prompt", {"prompt": graph(7), "front": True}).json
    early = server.post("/prompt", {"prompt": graph(8), "number": -1000.5}).json
    found = server.get("/queue").json
    assert [item[1] for item in found["queue_running"]] == [first]
    assert [item[1] for item in found["queue_pending"]] == [early["prompt_id"], front["prompt_id"], second["prompt_id"]]
    assert early["number"] == -1000.5 and front["number"] < 0
    assert server.get("/prompt").json == {"exec_info": {"queue_remaining": 4}}
    server.post("/queue", {"delete": [second["prompt_id"], "unknown"]})
    assert len(server.get("/queue").json["queue_pending"]) == 2
    server.post("/queue", {"clear": True})
    assert server.get("/queue").json["queue_pending"] == []
    server.post("/interrupt", {"prompt_id": "another"})
    assert server.get(f"/prompts/{first}").json["state"] == "running"
    server.post("/interrupt", {"prompt_id": first})
    assert server.get(f"/prompts/{first}/events?since=0&wait=5").status == 200
    end = time.monotonic() + 5
    while (state := server.get(f"/prompts/{first}").json["state"]) == "running" and time.monotonic() < end:
        time.sleep(0.02)
    assert state == "cancelled"
    assert server.get(f"/history/{first}").json[first]["status"]["status_str"] == "error"


def test_defect_19_an_interrupt_of_one_prompt_never_stops_another(server):
    running = server.post("/prompt", {"prompt": slow(20, "r")}).json["prompt_id"]
    waiting = server.post("/prompt", {"prompt": slow(0.3, "s")}).json["prompt_id"]
    until_running(server, running)
    for other in (waiting, "unknown", ""):
        assert server.post("/interrupt", {"prompt_id": other}).status == 200
    assert server.get(f"/prompts/{running}").json["state"] == "running"
    server.post("/interrupt", {"prompt_id": running})
    server.post("/interrupt", {"prompt_id": running})
    end = time.monotonic() + 60
    while server.get(f"/prompts/{waiting}").json["state"] != "done" and time.monotonic() < end:
        time.sleep(0.05)
    assert server.get(f"/prompts/{waiting}").json["state"] == "done"
    assert server.get(f"/prompts/{running}").json["state"] == "cancelled"


@pytest.mark.alone
def test_defect_23_a_long_queue_is_listed_without_holding_the_event_loop(serve, graph):
    def gap(server):
        line = next(
            line
            for line in server.get("/metrics").body.decode().splitlines()
            if line.startswith("graphflow_event_loop_gap")
        )
        return float(line.rpartition(" ")[2])

    big = {str(index): {"class_type": "Number", "inputs": {"text": "x" * 100}} for index in range(100)}
    with serve(paused=True) as server:
        ids = [
            server.post("/prompt", {"prompt": {**big, **graph(index % 100)}}).json["prompt_id"] for index in range(300)
        ]
        gaps: list[float] = []
        while len(gaps) < 5 and (not gaps or min(gaps) >= 0.05):
            gap(server)
            found = server.get("/queue").json["queue_pending"]
            gaps.append(gap(server))
        assert [item[1] for item in found] == ids and len(found[0][2]) == 100
        assert server.get("/queue?limit=2&offset=1").json["queue_pending"] == found[1:3]
        assert min(gaps) < 0.05, gaps


def test_a_paused_server_goes_on_when_it_is_told_to(serve, graph):
    with serve(paused=True) as server:
        prompt_id = server.post("/prompt", {"prompt": graph(61)}).json["prompt_id"]
        assert server.get("/health").json["paused"] is True
        assert server.get(f"/prompts/{prompt_id}").json["state"] == "pending"
        assert server.post("/queue", {"paused": False}).status == 200
        assert server.run(graph(61), prompt_id=prompt_id)["state"] == "done"


def test_attack_10_a_webhook_goes_nowhere_that_was_not_allowed(server, graph):
    for address in (
        "http://127.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "https://evil.example/",
        "file:///etc/passwd",
        5,
    ):
        refused = server.post("/prompt", {"prompt": graph(62), "webhook": address})
        assert refused.status == 400 and refused.problems, address


def test_attack_4_a_path_in_a_node_of_the_workflow_leads_nowhere(server, tmp_path):
    for name in ("../../etc/passwd", "/etc/passwd", "..\\x", "a\0b"):
        load = {
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
        assert server.post("/prompt", {"prompt": load}).status == 400
        model = {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
            "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
        }
        assert server.post("/prompt", {"prompt": model}).status == 400
    before = sorted(server.root.parent.rglob("*.txt"))
    for prefix in ("../escaped", "/tmp/escaped", "a/../../escaped"):
        result = server.run({"1": {"class_type": "Save", "inputs": {"filename_prefix": prefix}}})
        assert result["state"] == "failed" and "leads out of its folder" in result["error"]["exception_message"]
    assert sorted(server.root.parent.rglob("*.txt")) == before


def test_an_interrupt_without_a_body_stops_what_runs(server):
    prompt_id = server.post("/prompt", {"prompt": slow(20, "b")}).json["prompt_id"]
    until_running(server, prompt_id)
    assert server.post("/interrupt").status == 200
    assert server.post("/prompt?wait=10", {"prompt": slow(20, "b"), "prompt_id": prompt_id}).status == 200
    assert server.get(f"/prompts/{prompt_id}").json["state"] == "cancelled"


def test_the_same_id_and_body_is_answered_the_same_and_another_body_is_refused(server, graph):
    body = {"prompt": graph(9), "prompt_id": "again", "client_id": "c"}
    first, second = server.post("/prompt", body), server.post("/prompt", body)
    assert first.status == second.status == 200 and first.json == second.json
    refused = server.post("/prompt", {**body, "prompt": graph(10)})
    assert refused.status == 409 and refused.problems == ["prompt_id_taken"]


def load_picture(name, value=63):
    """A picture that may be missing, and an output that can run without it."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "Number", "inputs": {"value": value}},
        "4": {"class_type": "Show", "inputs": {"value": ["3", 0]}},
    }


def test_the_same_id_and_body_is_answered_the_same_though_its_files_have_come_or_gone(server):
    picture = server.root / "input" / "comes.png"
    graph = load_picture("comes.png")
    graph["4"]["inputs"]["unknown"] = 1
    body = {"prompt": graph, "prompt_id": "comes"}
    first = server.post("/prompt", body)
    assert first.status == 200 and set(first.json["node_errors"]) == {"1"} and first.json["warnings"]
    picture.parent.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(picture)
    assert server.post("/prompt", body).json == first.json
    goes = {"prompt": load_picture("comes.png", 64), "prompt_id": "goes"}
    first = server.post("/prompt", goes)
    assert first.status == 200 and first.json["node_errors"] == {}
    picture.unlink()
    again = server.post("/prompt", goes)
    assert again.status == 200 and again.json == first.json
    assert server.post("/prompt", {**goes, "strict": True}).status == 409, "that is another wish"


def test_the_same_id_and_body_is_answered_the_same_though_the_queue_is_full_by_now(serve, graph):
    with serve(paused=True, limits={"waiting": 2}, queue={"waiting_of_one": 2}) as server:
        bodies = [{"prompt": graph(value), "prompt_id": f"full-{value}"} for value in range(3)]
        answers = [server.post("/prompt", body) for body in bodies]
        assert [answer.status for answer in answers] == [200, 200, 429]
        again = server.post("/prompt", bodies[0])
        assert again.status == 200 and again.json == answers[0].json


@pytest.mark.parametrize("prompt_id", ["../x", "a b", "", "x" * 200, "-x", 5, "a\nb"])
def test_an_id_that_is_no_plain_name_is_refused(server, graph, prompt_id):
    assert server.post("/prompt", {"prompt": graph(), "prompt_id": prompt_id}).status == 400


def test_a_prompt_can_be_waited_for(server, graph):
    result = server.run(graph(11))
    assert result["state"] == "done" and result["outputs"] == {"2": {"value": [11]}} and result["error"] is None
    failed = server.run(
        {"1": {"class_type": "Misbehave", "inputs": {}}, "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}}}
    )
    assert failed["state"] == "failed" and "out of luck" in failed["error"]["exception_message"]


def test_a_wait_that_is_too_short_tells_the_state_so_far(server):
    answer = server.post("/prompt?wait=0.1", {"prompt": slow(3, "c")}).json
    assert answer["state"] in ("pending", "running")
    server.post("/interrupt")


def test_the_good_output_of_a_prompt_runs_and_the_bad_one_is_told(server, graph):
    both = {
        **graph(12),
        "3": {"class_type": "Number", "inputs": {"value": 500}},
        "4": {"class_type": "Show", "inputs": {"value": ["3", 0]}},
    }
    answer = server.run(both)
    error = answer["node_errors"]["3"]
    assert (
        set(answer["node_errors"]) == {"3"} and error["dependent_outputs"] == ["4"] and error["class_type"] == "Number"
    )
    assert error["errors"][0]["type"] == "value_bigger_than_max"
    assert error["errors"][0]["extra_info"]["received_value"] == 500
    assert answer["outputs"] == {"2": {"value": [12]}}
    strict = server.post("/prompt", {"prompt": both, "strict": True})
    assert strict.status == 400 and set(strict.json["node_errors"]) == {"3"} and strict.problems == ["out_of_range"]


def test_all_errors_are_told_at_once_in_the_fields_words(server):
    bad = {
        "1": {"class_type": "Number", "inputs": {"value": "x", "mode": "nope"}},
        "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
        "3": {"class_type": "Show", "inputs": {}},
        "4": {"class_type": "Show", "inputs": {"value": ["77", 0]}},
        "5": {"class_type": "Show", "inputs": {"value": ["1", 7]}},
        "6": {"class_type": "Write", "inputs": {"text": ["2", 0], "seconds": -1}},
    }
    answer = server.post("/prompt", {"prompt": bad})
    assert answer.status == 400
    assert answer.json["error"]["type"] == "prompt_outputs_failed_validation"
    types = {node: [error["type"] for error in found["errors"]] for node, found in answer.json["node_errors"].items()}
    assert types["1"] == ["invalid_input_type", "value_not_in_list"]
    assert types["3"] == ["required_input_missing"]
    assert types["4"] == types["5"] == ["bad_linked_input"]
    choice = answer.json["node_errors"]["1"]["errors"][1]["extra_info"]
    assert choice["input_name"] == "mode" and choice["input_config"][0] == ["plain", "fancy"]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ({"1": {"class_type": "Nope", "inputs": {}}}, "invalid_prompt"),
        ({"1": {"inputs": {}}}, "invalid_prompt"),
        ({"1": {"class_type": "Number", "inputs": {}}}, "prompt_no_outputs"),
        ({}, "prompt_no_outputs"),
    ],
)
def test_what_cannot_run_at_all_is_refused_with_the_fields_type(server, prompt, kind):
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status == 400 and answer.json["error"]["type"] == kind and answer.json["problems"]


def test_a_malformed_node_hides_nothing_else_that_is_wrong(server):
    bad = {
        "1": {"inputs": {}},
        "2": {"class_type": "Show", "inputs": ["not", "an", "object"]},
        "3": {"class_type": "Number", "inputs": {"value": 500}},
        "4": {"class_type": "Show", "inputs": {"value": ["3", 0]}},
        "5": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
        "6": {"class_type": "Nope", "inputs": {}},
    }
    found = [("1", "no_class_type"), ("2", "malformed_node"), ("3", "out_of_range"), ("6", "unknown_node_type")]
    answer = server.post("/prompt", {"prompt": bad})
    assert answer.status == 400 and answer.json["error"]["type"] == "invalid_prompt"
    assert answer.json["node_errors"] == {}, "as ComfyUI answers what it refuses whole"
    assert [(problem["node"], problem["code"]) for problem in answer.json["problems"]] == found
    told = server.post("/validate", {"prompt": bad}).json
    assert told["valid"] is False and [(problem["node"], problem["code"]) for problem in told["problems"]] == found
    del bad["2"], bad["3"], bad["4"], bad["5"], bad["6"]
    assert server.post("/prompt", {"prompt": bad}).problems == ["no_class_type"], "nothing that only follows from it"


def test_a_body_without_a_prompt_and_a_path_that_is_not_there_are_answered_by_what_to_send(server, graph):
    for body in ({}, {"prompt": None}, {"client_id": "x"}, graph(1)):
        answer = server.post("/prompt", body)
        assert answer.status == 400 and answer.json["error"]["type"] == "no_prompt"
        assert '{"prompt": WORKFLOW}' in answer.json["problems"][0]["hint"]
    named = server.post("/prompt", {"prompt": "text_to_image"}).json["problems"][0]
    assert named["message"].startswith("expected a JSON object; found 'text_to_image'")
    assert "/openapi.json" in server.get("/workflows").json["problems"][0]["hint"]
    assert "/openapi.json" in server.post("/run", {}).json["problems"][0]["hint"]


def test_only_the_wanted_outputs_run(server, graph):
    two = {**graph(13), "3": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}
    assert server.run(two, partial_execution_targets=["3", "no such node"])["outputs"] == {"3": {"value": [13]}}
    for targets in ([], ["1"], ["unknown"]):
        refused = server.post("/prompt", {"prompt": two, "partial_execution_targets": targets})
        assert refused.status == 400 and refused.json["error"]["type"] == "prompt_no_outputs", targets


def test_validate_tells_all_problems_and_queues_nothing(server, graph):
    before = server.get("/prompt").json
    good = server.post("/validate", {"prompt": graph()}).json
    assert good["valid"] is True and good["outputs"] == ["2"] and good["problems"] == []
    bad = server.post("/validate", {"prompt": graph(500)}).json
    assert bad["valid"] is False and [problem["code"] for problem in bad["problems"]] == ["out_of_range"]
    assert server.get("/prompt").json == before


def test_validate_states_what_a_run_would_cost_as_the_command_does(server, tmp_path, capsys):
    """The built-in model: its parts, its passes, its peak."""
    shipped = Path(__file__).parents[3] / "workflows" / "text_to_image.json"
    workflow = json.loads(shipped.read_text())
    (stated,) = server.post("/validate", {"prompt": workflow}).json["cost"]
    assert main(["validate", "--cost", "--json", str(shipped), "--device", "cpu"]) == 0
    (printed,) = json.loads(capsys.readouterr().out)["cost"]
    assert (stated["loads"], stated["stages"], stated["peak"]) == (
        printed["loads"],
        printed["stages"],
        printed["peak"],
    )
    (steps,) = [node["inputs"]["steps"] for node in workflow.values() if "steps" in node["inputs"]]
    assert stated["passes"] == steps and {load["part"] for load in stated["loads"]} == {"text.l", "denoiser", "vae"}
    assert stated["peak"] > sum(load["bytes"] for load in stated["loads"]) > 10_000_000


def test_defect_15_secrets_are_shown_nowhere(server):
    extra = {
        "api_key_comfy_org": "hush-1",
        "auth_token_comfy_org": "hush-2",
        "my_secret": "hush-3",
        "author": "me",
        "api-keys": ["hush-4"],
        "accessToken": "hush-5",
        "comfyApiKey": "hush-6",
        "nested": {"api_key_comfy_org": "hush-7"},
        "extra_pnginfo": {"api_key": "hush-8", "workflow": {"note": "x"}},
    }
    first = server.post("/prompt", {"prompt": slow(1.0, "d"), "extra_data": extra}).json["prompt_id"]
    until_running(server, first)
    second = server.post("/prompt", {"prompt": slow(0.0, "e"), "extra_data": extra}).json["prompt_id"]
    shown = [server.get("/queue").body]
    server.post("/prompt?wait=20", {"prompt": slow(0.0, "e"), "extra_data": extra, "prompt_id": "after"})
    shown += [server.get(path).body for path in ("/history", f"/jobs/{second}", f"/prompts/{first}/events", "/jobs")]
    assert all(b"hush" not in body for body in shown)
    assert server.get(f"/history/{second}").json[second]["prompt"][3]["author"] == "me"
    assert server.get(f"/history/{second}").json[second]["prompt"][3]["extra_pnginfo"] == {"workflow": {"note": "x"}}


@pytest.mark.parametrize("value", [["1"], [], ["1", "0"], [1, 0], ["1", 0, 0], ["1", 0.5], ["1", True]])
@pytest.mark.parametrize("name", ["value", "mode"])
def test_a_list_that_is_no_link_is_told_as_a_bad_link(server, graph, name, value):
    answer = server.post("/prompt", {"prompt": graph(**{name: value})})
    (error,) = answer.json["node_errors"]["1"]["errors"]
    assert answer.status == 400
    assert (error["type"], error["extra_info"]["received_value"]) == ("bad_linked_input", value)


def test_the_number_of_an_output_may_be_written_with_a_point(server, graph):
    """As programs write it whose language has one kind of number."""
    floating = graph(77)
    floating["2"]["inputs"]["value"] = ["1", 0.0]
    assert server.run(floating)["outputs"]["2"] == {"value": [77]}
    floating["2"]["inputs"]["value"] = ["1", 7.0]
    errors = server.post("/prompt", {"prompt": floating}).json["node_errors"]["2"]["errors"]
    assert [error["type"] for error in errors] == ["bad_linked_input"]


def test_events_are_numbered_and_can_be_read_again_from_any_point(server, graph):
    prompt_id = server.run(graph(14))["prompt_id"]
    everything = server.get(f"/prompts/{prompt_id}/events").json
    numbers = [event["number"] for event in everything["events"]]
    assert numbers == list(range(1, len(numbers) + 1)) and everything["last"] == numbers[-1]
    for since in numbers:
        rest = server.get(f"/prompts/{prompt_id}/events?since={since}").json["events"]
        assert rest == everything["events"][since:]
    assert server.get("/prompts/unknown/events").status == 404


def test_events_come_as_a_stream_that_ends_with_the_prompt(server):
    prompt_id = server.post("/prompt", {"prompt": slow(0.5, "f")}).json["prompt_id"]
    answer = server.get(f"/prompts/{prompt_id}/events", Accept="text/event-stream", Last_Event_ID="1")
    assert answer.headers["Content-Type"] == "text/event-stream"
    frames = [
        dict(line.split(": ", 1) for line in frame.split("\n")) for frame in answer.body.decode().strip().split("\n\n")
    ]
    assert [int(frame["id"]) for frame in frames] == list(range(2, len(frames) + 2))
    assert frames[-1]["event"] == "execution_success"
    assert json.loads(frames[-1]["data"])["prompt_id"] == prompt_id


def test_history_can_be_paged_and_forgotten(server, graph):
    ids = [server.run(graph(20 + index))["prompt_id"] for index in range(3)]
    newest = list(server.get("/history?max_items=2").json)
    assert newest == ids[1:]
    server.post("/history", {"delete": [ids[0]]})
    assert server.get(f"/history/{ids[0]}").json == {}
    server.post("/history", {"clear": True})
    assert server.get("/history").json == {}


def test_jobs_are_listed_as_the_editor_reads_them(server, graph):
    prompt_id = server.run({"1": {"class_type": "Write", "inputs": {"text": "job"}}})["prompt_id"]
    page = server.get("/api/jobs?status=completed,failed,cancelled&limit=64&offset=0").json
    assert page["pagination"]["limit"] == 64 and page["pagination"]["offset"] == 0
    job = next(job for job in page["jobs"] if job["id"] == prompt_id)
    assert (
        job["status"] == "completed" and job["outputs_count"] == 1 and job["execution_end_time"] >= job["create_time"]
    )
    whole = server.get(f"/api/jobs/{prompt_id}").json
    assert whole["workflow"]["prompt"]["1"]["class_type"] == "Write" and whole["execution_status"]["completed"] is True
    running = server.post("/prompt", {"prompt": slow(20, "g")}).json["prompt_id"]
    until_running(server, running)
    assert [job["id"] for job in server.get("/api/jobs?status=in_progress,pending").json["jobs"]] == [running]
    assert server.post(f"/api/jobs/{running}/cancel").status == 200
    assert server.post("/prompt?wait=10", {"prompt": slow(20, "g"), "prompt_id": running}).json["state"] == "cancelled"
    assert server.get("/api/jobs?status=nonsense").status == 400
    assert server.get("/api/jobs/unknown").status == 404


def test_jobs_come_newest_first_and_one_that_was_cancelled_before_it_began_is_none(serve, graph):
    def listed(query):
        return [job["id"] for job in server.get(f"/jobs?{query}").json["jobs"]]

    with serve(paused=True) as server:
        first, second, third, gone = (
            server.post("/prompt", {"prompt": graph(value), **more}).json["prompt_id"]
            for value, more in ((1, {"number": 7}), (2, {"front": True}), (3, {"number": 5}), (4, {}))
        )
        server.post(f"/jobs/{gone}/cancel")
        for query in ("", "sort_by=create_time", "sort_by=created_at", "sort_by=create_time&sort_order=desc"):
            assert listed(query) == [third, second, first]
        assert listed("sort_order=asc") == listed("sort_by=create_time&sort_order=asc") == [first, second, third]
        assert listed("sort_by=create_time&sort_order=asc&limit=1&offset=1") == [second]
        assert listed("status=pending&sort_by=priority&sort_order=asc") == [second, third, first], "as they will run"
        assert listed("status=cancelled,failed,completed") == [] and gone not in server.get("/history").json
        assert server.get("/jobs").json["pagination"]["total"] == 3
        assert server.get(f"/jobs/{gone}").json["status"] == "cancelled", "asked for by its id it is known"
        refused = server.get("/jobs?sort_by=colour")
        assert refused.status == 400 and refused.problems == ["bad_query"]


def test_jobs_that_run_and_wait_are_among_the_others_by_their_age(serve, graph):
    with serve() as server:
        done = server.run({"1": {"class_type": "Write", "inputs": {"text": "done"}}})["prompt_id"]
        running = server.post("/prompt", {"prompt": slow(20, "h")}).json["prompt_id"]
        until_running(server, running)
        waiting = server.post("/prompt", {"prompt": graph(1)}).json["prompt_id"]
        assert [job["id"] for job in server.get("/jobs").json["jobs"]] == [waiting, running, done]


def test_whoever_waits_when_the_server_is_told_to_end_is_answered(serve):
    """A result, a long poll and a stream: each ends with what is known, and none with a mistake of the server."""
    steps = {
        "1": {"class_type": "Steps", "inputs": {"text": "end", "steps": 200, "seconds": 0.1}},
        "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
    }
    answers = {}

    def ask(name, *request):
        answers[name] = server.ask(*request)

    with serve() as server:
        prompt_id = server.post("/prompt", {"prompt": steps}).json["prompt_id"]
        until_running(server, prompt_id)
        stream = {"Accept": "text/event-stream"}
        requests = {
            "wait": ("POST", "/prompt?wait=30", {"prompt": slow(0.1, "waits")}),
            "poll": ("GET", f"/prompts/{prompt_id}/events?since=50&wait=30"),
            "stream": ("GET", f"/prompts/{prompt_id}/events", None, stream),
        }
        threads = [threading.Thread(target=ask, args=(name, *request)) for name, request in requests.items()]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
    for thread in threads:
        thread.join(10)
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(requests, 200)
    assert answers["wait"].json["state"] == "pending" and answers["poll"].json["events"] == []
    assert b"event: execution_start" in answers["stream"].body and b"incident" not in answers["stream"].body


def test_on_a_full_disk_every_change_of_the_queue_is_a_507(server, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    for module, name in ((ledger, "cancel_pending"), (upkeep, "forget"), (ledger, "cancel")):
        monkeypatch.setattr(module, name, full)
    running = server.post("/prompt", {"prompt": slow(20, "full")}).json["prompt_id"]
    until_running(server, running)
    for path, body in (("/history", {"clear": True}), ("/queue", {"clear": True}), ("/interrupt", None)):
        refused = server.post(path, body)
        assert refused.status == 507 and refused.problems == ["no_disk"], (path, refused.body)
    monkeypatch.undo()
    assert (
        server.post("/prompt?wait=10", {"prompt": slow(20, "full"), "prompt_id": running}).json["state"] == "cancelled"
    )
