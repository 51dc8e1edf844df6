"""Each prompt that waits has its reason, in words for people."""

from types import SimpleNamespace

import pytest
from graphflow_server.queue.accounts import ClientAccounts
from graphflow_server.queue.lanes import Lane
from graphflow_server.queue.turns import Turns
from graphflow_server.queue.waits import reasons


@pytest.fixture
def lanes():
    accounts = ClientAccounts()
    worker = SimpleNamespace(is_ready=True)
    return [Lane(name, worker, Turns(2, True, accounts=accounts)) for name in ("cpu 1", "cpu 2")]


def begin(lane, prompt_id, client, alone=0):
    lane.turns.began(prompt_id, client, alone)
    lane.at_work[prompt_id] = None


def why(lanes, *waiting, paused=False):
    """The reasons of prompts, each given as `client` or `client alone`."""
    prompts = [
        SimpleNamespace(id=str(at), client=each.split()[0], alone=len(each.split()) - 1)
        for at, each in enumerate(waiting)
    ]
    return list(reasons(prompts, lanes, paused, one_a_client=True).values())


def test_without_a_worker_that_takes_prompts_that_is_the_reason(lanes):
    assert why(lanes, "anna", paused=True) == ["the queue is paused"]
    assert why([], "anna") == ["no worker is connected"]
    for lane in lanes:
        lane.refuse("0", "it lacks a file")
    assert why(lanes, "anna") == ["no worker can run it: cpu 1: it lacks a file; cpu 2: it lacks a file"]
    lanes[0].worker.is_ready = False
    assert why(lanes, "anna", "bert")[1] == "a worker is starting"


def test_a_prompt_whose_client_has_one_on_each_worker_with_room_waits_for_those_and_not_for_its_place(lanes):
    begin(lanes[0], "a", "anna")
    begin(lanes[1], "b", "anna")
    found = why(lanes, "anna", "anna", "bert")
    assert found == ["another prompt of its client is at work"] * 2 + ["2 prompts are before it"]
    begin(lanes[1], "c", "bert")
    assert why(lanes, "anna") == ["another prompt of its client is at work"], "on the worker that has room"
    begin(lanes[0], "d", "bert")
    assert why(lanes, "anna", "carl") == ["4 prompts are at work", "1 prompt is before it"]


def test_who_runs_alone_and_who_waits_for_that_know_it(lanes):
    begin(lanes[0], "a", "anna", alone=1)
    begin(lanes[1], "b", "bert")
    assert why(lanes, "carl alone")[0].startswith("it runs alone on a worker that has nothing else at work")
    assert why(lanes, "bert") == ["another prompt of its client is at work"], "on the other worker"
    begin(lanes[1], "c", "dora")
    assert why(lanes, "carl")[0].startswith("a prompt that runs alone is at work")


def test_who_runs_alone_on_all_workers_keeps_all_others_waiting(lanes):
    begin(lanes[0], "a", "anna", alone=2)
    assert why(lanes, "bert", "carl")[0].startswith("a prompt that runs alone is at work")
    assert why(lanes, "bert alone alone")[0].startswith("it runs alone, when no worker has anything else at work")
