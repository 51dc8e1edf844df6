"""`gf.connect` to a real `graphflow serve`: the same results as here, and every event once, whatever happens to it."""

import asyncio
import threading
import time

import pytest
from PIL import Image, ImageChops

import graphflow as gf
from graphflow.events import NodeCached, NodeDone, NodeStarted, Progress, RunDone, RunStarted

from ..own_server import TOKEN


@pytest.fixture
def remote(server, tmp_path):
    return gf.connect(server.url, token=TOKEN, output_dir=tmp_path / "fetched")


def slow(server, **inputs):
    n = gf.Nodes(folders=(server.folder / "pack",))
    return gf.Graph.of(n.Show(value=n.Slow(**inputs))).workflow


def picture(seed=1):
    from graphflow_nodes import api as n

    with gf.Graph() as g:
        model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        text = n.CLIPTextEncode(clip=clip, text="a red apple")
        latent = n.EmptyLatentImage(width=64, height=64)
        done = n.KSampler(model=model, positive=text, negative=text, latent_image=latent, seed=seed, steps=2)
        n.SaveImage(images=n.VAEDecode(samples=done, vae=vae), filename_prefix="there/apple")
    return g


def test_a_picture_made_there_is_the_picture_made_here(remote, tmp_path):
    g = picture()
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path / "here")) as engine:
        here = g.run(engine)
    there = g.run(remote)
    assert there["SaveImage"].images[0].path.parent == tmp_path / "fetched" / "there"
    with Image.open(here.images[0].path) as one, Image.open(there.images[0].path) as other:
        difference = ImageChops.difference(one, other)
    assert max(high for _, high in difference.getextrema()) <= 1, "other numbers of threads round otherwise"
    again = g.run(remote)
    assert not again.timings and again.images == there.images


def test_a_server_takes_the_options_that_an_engine_takes(remote, server):
    g = slow(server, steps=50, seconds=0.1)
    with pytest.raises(gf.TimedOut):
        remote.run(g, timeout=0.5)
    made = remote.run(g, inputs={"Slow.steps": 1, "Slow.seconds": 0.0}, targets="Show")
    assert made["Show"].ui == {"value": [1]}


def test_progress_comes_with_its_node_and_each_node_starts_and_ends_once(remote, server):
    events = []
    result = remote.run(slow(server, steps=4, seconds=0.1), on_event=events.append)
    assert result["Show"].ui == {"value": [4]}
    assert any(isinstance(event, Progress) and event.node == "Slow" and event.total == 4 for event in events)
    told = [(type(event), event.node) for event in events if isinstance(event, (NodeStarted, NodeDone))]
    assert told == [(NodeStarted, "Slow"), (NodeDone, "Slow"), (NodeStarted, "Show"), (NodeDone, "Show")]
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunDone)


def test_all_problems_are_told_as_a_local_engine_tells_them(remote):
    wrong = picture().workflow.set_all({"KSampler.steps": -1, "KSampler.sampler_name": "eulr"})
    with gf.Engine() as engine:
        expected = {(problem.code, problem.node, problem.input, problem.hint) for problem in engine.validate(wrong)}
    with pytest.raises(gf.InvalidWorkflow) as error:
        remote.run(wrong)
    for problems in (error.value.problems, remote.validate(wrong)):
        assert {(problem.code, problem.node, problem.input, problem.hint) for problem in problems} == expected
    assert remote.validate(picture().workflow) == []


def test_a_node_that_fails_there_fails_with_its_own_words(remote, server):
    n = gf.Nodes(folders=(server.folder / "pack",))
    workflow, events = gf.Graph.of(n.Show(value=n.Break(value=n.Slow(steps=2)))).workflow, []
    with pytest.raises(gf.NodeFailed, match="broken on purpose") as error:
        remote.run(workflow, on_event=events.append)
    assert error.value.problems[0].node == "Break"
    assert [event.node for event in events if isinstance(event, NodeDone)] == ["Slow"]


def test_cancel_takes_effect_at_the_next_step(remote, server):
    flag, events = threading.Event(), []

    def listen(event):
        events.append(event)
        if isinstance(event, Progress):
            flag.set()

    with pytest.raises(gf.Cancelled):
        remote.run(slow(server, steps=600, seconds=0.05), on_event=listen, cancel=flag)
    assert events[-1].status == "cancelled"


def test_a_run_under_an_id_that_is_known_is_fetched_and_not_made_again(remote, server):
    workflow = slow(server, steps=1)
    first = remote.run(workflow, run_id="once")
    events = []
    again = remote.run(workflow, run_id="once", on_event=events.append)
    assert again["Show"].ui == first["Show"].ui
    assert len(list((server.folder / "output").glob("**/once*"))) == 0 and events[-1].status == "done"


def test_a_picture_that_is_sent_can_be_loaded_there(remote, tmp_path):
    from graphflow_nodes import api as n

    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    name = remote.upload(tmp_path / "red.png")
    with gf.Graph() as g:
        n.SaveImage(images=n.LoadImage(image=name).IMAGE, filename_prefix="back")
    with Image.open(g.run(remote).images[0].path) as back:
        assert back.getpixel((0, 0)) == (255, 0, 0)


def test_without_the_token_nothing_is_answered(server):
    with pytest.raises(gf.GraphFlowError, match="token"):
        gf.connect(server.url).run(slow(server))


def test_many_runs_at_once_each_hear_of_themselves_alone(remote, server):
    async def one(steps):
        events = []
        result = await remote.run_async(slow(server, steps=steps), on_event=events.append)
        return result["Show"].ui["value"], sum(isinstance(event, RunStarted) for event in events)

    async def main():
        return await asyncio.gather(*(one(steps) for steps in range(1, 9)))

    assert asyncio.run(main()) == [([steps], 1) for steps in range(1, 9)]


def test_a_run_that_was_submitted_survives_its_client_and_tells_all_later(remote, server):
    run_id = remote.submit(slow(server, steps=17, seconds=0.01))
    other = gf.connect(server.url, token=TOKEN, output_dir=remote.output_dir)

    async def states():
        return [type(event) async for event in other.events(run_id) if not isinstance(event, Progress)]

    assert other.result(run_id)["Show"].ui == {"value": [17]}
    assert asyncio.run(states()) == [RunStarted, NodeStarted, NodeDone, NodeStarted, NodeDone, RunDone]


def test_what_is_cached_there_is_told_as_cached(remote):
    g = picture()
    g.run(remote)
    events = []
    remote.run(g.workflow, on_event=events.append)
    assert [event.node for event in events if isinstance(event, NodeCached)] == ["SaveImage"]
    assert events[0].nodes == () and "KSampler" in events[0].cached


def test_a_sweep_runs_there_with_what_is_common_once_and_a_failing_variant_alone(remote, server):
    n = gf.Nodes(folders=(server.folder / "pack",))
    with gf.Graph() as g:
        start = n.PrimitiveInt(value=5)
        number = n.ComfyMathExpression(expression="a + 1", values=[start])
        n.Show(value=number.INT)
    sweep = gf.sweep(g, {start.value: [5, 6, "x"], number.expression: ["a + 1", "a * 2", "a // 0"]})
    events = []
    results = sweep.run(remote, on_event=events.append)
    shown = [item.nodes["Show"].ui["value"] if item.nodes else None for item in results]
    assert shown == [[6], [10], None, [7], [12], None, None, None, None]
    assert len(results.failed) == 5 and 1 <= results.ran["PrimitiveInt"] <= 2
    assert {event.node for event in events if isinstance(event, NodeStarted)} >= {"ComfyMathExpression@0"}
    assert isinstance(events[0], RunStarted) and events[-1].status == "done"


def test_cancelling_a_sweep_stops_all_of_it_there(remote, server):
    flag = threading.Event()

    def listen(event):
        if isinstance(event, Progress):
            flag.set()

    with pytest.raises(gf.Cancelled):
        gf.sweep(slow(server, seconds=0.05), {"Slow.steps": range(600, 620)}).run(remote, on_event=listen, cancel=flag)
    assert remote.run(slow(server, steps=1))["Show"].ui == {"value": [1]}


def test_a_server_that_is_killed_and_started_again_is_followed_to_the_end(remote, server):
    """The run starts again there, which is told; otherwise each state comes once, and in order."""
    workflow = slow(server, steps=20, seconds=0.1)
    events = []

    def listen(event):
        events.append(event)
        if isinstance(event, NodeStarted) and sum(isinstance(each, NodeStarted) for each in events) == 1:
            threading.Thread(target=restart).start()

    def restart():
        server.kill()
        time.sleep(0.5)
        server.start()

    result = remote.run(workflow, on_event=listen)
    assert result["Show"].ui == {"value": [20]}
    states = [type(event) for event in events if not isinstance(event, Progress)]
    whole = [RunStarted, NodeStarted, NodeDone, NodeStarted, NodeDone, RunDone]
    assert states == [RunStarted, NodeStarted, *whole]
