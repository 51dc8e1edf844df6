"""A sampler that was killed goes on at the step where it was, and gives the same bits."""

import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from threading import Event

import pytest
from safetensors.numpy import load_file

import graphflow as gf
from graphflow.cache.disk import DiskTier
from graphflow.cache.index import Index

WORKFLOWS = Path(__file__).parents[3] / "workflows"
STEPS = 60


def latent_workflow(sampler):
    """The shipped picture, but its latent is saved, and the sampler takes long enough to be killed."""
    document = json.loads((WORKFLOWS / "text_to_image.json").read_text())
    (sampling,) = (node for node in document.values() if node["class_type"] == "KSampler")
    sampling["inputs"] |= {"sampler_name": sampler, "steps": STEPS, "seed": 5}
    document = {key: node for key, node in document.items() if node["class_type"] not in ("VAEDecode", "SaveImage")}
    document["s"] = {"class_type": "SaveLatent", "inputs": {"samples": ["3", 0]}}
    return document


def latent(result):
    return load_file(result["SaveLatent"].ui["latents"][0]["path"])["latent_tensor"].tobytes()


def kill_in_the_sampler(running):
    for line in running.stdout:
        if json.loads(line).get("step", 0) >= 3:
            os.kill(running.pid, signal.SIGKILL)
            break
    assert running.wait() == -signal.SIGKILL


def stop_in_the_sampler(path, folder):
    """The same in this process: what it keeps is what a killed one leaves."""
    stop = Event()

    def note(event):
        if isinstance(event, gf.Progress) and event.step >= 3:
            stop.set()

    settings = gf.Settings(output_dir=folder / "output", checkpoint_every=0.0)
    with gf.Engine(settings=settings, cache=gf.Cache(folder / "cache")) as engine, pytest.raises(gf.Cancelled):
        engine.run(gf.Workflow.load(path), on_event=note, cancel=stop)


def test_runs_that_were_killed_or_stopped_in_the_sampler_resume_and_their_latents_have_the_same_bits(process, tmp_path):
    samplers = ["euler_ancestral", "dpmpp_2m"]  # one with a random generator, one with a history
    paths = [tmp_path / f"{sampler}.json" for sampler in samplers]
    for path, sampler in zip(paths, samplers, strict=True):
        path.write_text(json.dumps(latent_workflow(sampler)))
    stop_in_the_sampler(paths[0], tmp_path)
    kill_in_the_sampler(process.start("run", paths[1], "--json", "--checkpoint-every", "0"))
    assert not list((tmp_path / "output").rglob("*.latent"))

    settings = gf.Settings(output_dir=tmp_path / "output")
    for path in paths:
        workflow = gf.Workflow.load(path)
        steps = []

        def note(event, steps=steps):
            if isinstance(event, gf.events.Progress):
                steps.append(event.step)

        with gf.Engine(settings=settings, cache=gf.Cache(tmp_path / "cache")) as engine:
            resumed = latent(engine.run(workflow, on_event=note))
        assert 3 <= steps[0] < STEPS and steps[-1] == STEPS
        with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
            assert latent(engine.run(workflow)) == resumed
    assert not list((tmp_path / "cache").glob("v*/checkpoints/*/*")), "a checkpoint goes when its result is there"


@pytest.fixture
def counting(calls, graph):
    """A node of ten steps that can be stopped after some of them."""

    class Stopped(Exception):
        pass

    at = {"stop": None}

    @gf.node("Steps", version="1")
    def steps(context: gf.Context, start: int = 0) -> int:
        kept = context.restore()
        state = dict(kept) if kept is not None else {"step": 0, "sum": start}
        while state["step"] < 10:
            if at["stop"] == state["step"]:
                raise Stopped
            calls["step"] += 1
            state = {"step": state["step"] + 1, "sum": state["sum"] + state["step"]}
            context.keep(lambda now=state: now)
        return state["sum"]

    @gf.node("Out", version="1", output=True)
    def out(value: int) -> gf.Ui:
        return gf.Ui({"value": [value]})

    @gf.node("Two", version="1")
    def two(v: int) -> int:
        return 2

    def run(folder, stop=None, refresh=False, every=0.0, start=0):
        at["stop"] = stop
        settings = gf.Settings(checkpoint_every=every)
        with gf.Engine(gf.Registry([steps, out, two]), settings, gf.Cache(folder)) as engine:
            workflow = graph(
                x=("Two", {"v": 1}), y=("Two", {"v": 2}), s=("Steps", {"start": start}), o=("Out", {"value": "@s"})
            )
            return engine.run(workflow, refresh=refresh)["o"].ui

    return run


@pytest.mark.parametrize("stop", range(1, 10))
def test_wherever_a_node_stops_it_goes_on_from_there(counting, calls, tmp_path, stop):
    with pytest.raises(gf.NodeFailed):
        counting(tmp_path, stop)
    assert calls["step"] == stop
    assert counting(tmp_path) == {"value": [45]} and calls["step"] == 10


def test_another_recipe_starts_at_the_beginning(counting, calls, tmp_path):
    with pytest.raises(gf.NodeFailed):
        counting(tmp_path, 5)
    assert counting(tmp_path, start=1) == {"value": [46]} and calls["step"] == 15


def test_refresh_starts_at_the_beginning(counting, calls, tmp_path):
    with pytest.raises(gf.NodeFailed):
        counting(tmp_path, 5)
    assert counting(tmp_path, refresh=True) == {"value": [45]} and calls["step"] == 15


def test_a_kill_just_after_the_last_step_loses_nothing(counting, calls, tmp_path, monkeypatch):
    """The state waits until the result is on the disk: what a kill leaves before that is a folder with the state."""
    write, killed = DiskTier._write_batch, tmp_path / "killed"

    def slow(disk, batch):
        if any(getattr(change, "states", ()) for change in batch.changes):
            shutil.copytree(tmp_path / "cache", killed)
        return write(disk, batch)

    monkeypatch.setattr(DiskTier, "_write_batch", slow)
    assert counting(tmp_path / "cache") == {"value": [45]} and calls["step"] == 10
    monkeypatch.undo()
    assert counting(killed) == {"value": [45]} and calls["step"] == 10, "it goes on after the last step"
    assert not list(tmp_path.glob("*/v*/checkpoints/*/*")), "when the result is there, the state is dropped"


def test_where_the_result_cannot_be_kept_the_state_is(counting, calls, tmp_path, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Index, "put", full)
    assert counting(tmp_path) == {"value": [45]} and calls["step"] == 10
    monkeypatch.undo()
    assert counting(tmp_path) == {"value": [45]} and calls["step"] == 10


def test_no_state_is_left_where_the_result_became_known_by_other_ways(counting, calls, tmp_path):
    states = lambda: list(tmp_path.glob("v*/checkpoints/*/*"))  # noqa: E731
    with pytest.raises(gf.NodeFailed):
        counting(tmp_path, 5)
    assert states() and counting(tmp_path, refresh=True, every=3600) == {"value": [45]} and not states()
    with pytest.raises(gf.NodeFailed):
        counting(tmp_path, 5, start="@x")
    assert states() and counting(tmp_path, start="@y") == {"value": [47]}
    assert counting(tmp_path, start="@x") == {"value": [47]} and calls["step"] == 5 + 10 + 5 + 10 and not states()


def test_a_state_that_cannot_be_stored_fails_no_node(graph, tmp_path):
    @gf.node("Odd", version="1", output=True)
    def odd(context: gf.Context) -> gf.Ui:
        context.keep(lambda: {"state": object()})
        return gf.Ui({"done": [True]})

    with gf.Engine(gf.Registry([odd]), gf.Settings(checkpoint_every=0.0), gf.Cache(tmp_path)) as engine:
        assert engine.run(graph(o=("Odd", {})))["o"].ui == {"done": [True]}
        assert [problem.code for problem in engine.cache.problems] == ["cache_state"]


def test_a_checkpoint_is_stored_at_most_so_often(counting, calls, tmp_path):
    with pytest.raises(gf.NodeFailed):
        counting(tmp_path, 5, every=3600)
    assert not list(tmp_path.glob("v*/checkpoints/*/*"))
    counting(tmp_path)
    assert calls["step"] == 15


def test_a_damaged_checkpoint_is_none(counting, calls, tmp_path):
    with pytest.raises(gf.NodeFailed):
        counting(tmp_path, 5)
    (path,) = tmp_path.glob("v*/checkpoints/*/*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert counting(tmp_path) == {"value": [45]} and calls["step"] == 15
