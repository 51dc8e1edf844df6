"""How many prompts share passes, and that each image depends on that number alone."""

import asyncio
import hashlib
import os
import random
import signal

import pytest
from graphflow_server.queue import Submission
from graphflow_server.queue.costs import costs_of, note_passes
from graphflow_server.queue.sharing import likeness, passes_for
from graphflow_server.queue.store import QueueStore
from PIL import Image

from graphflow import Engine, Settings, Workflow

GRAPH = Workflow.load("workflows/text_to_image.json").set("EmptyLatentImage.batch_size", 1)
KINDS = [("euler", 6), ("dpmpp_2m", 8), ("euler_ancestral", 5), ("heun", 4), ("ddim", 7), ("lms", 6)]


def work(at, name, steps):
    return GRAPH.set_all({"KSampler.seed": at, "KSampler.sampler_name": name, "KSampler.steps": steps})


def digest(path):
    with Image.open(path) as opened:
        return hashlib.sha256(opened.tobytes()).hexdigest()


def digests_of_plain_runs(folder, together):
    with Engine(settings=Settings(output_dir=folder, together=together)) as engine:
        return [digest(engine.run(work(at, *kind)).images[0].path) for at, kind in enumerate(KINDS)]


def test_prompts_that_differ_in_seed_and_text_are_alike_and_others_are_not():
    whole = GRAPH.to_json()
    for place, value in (("KSampler.seed", 9), ("6.text", "a boat"), ("KSampler.steps", 3), ("KSampler.cfg", 2.0)):
        assert likeness(GRAPH.set(place, value).to_json()) == likeness(whole)
    for place, value in (("EmptyLatentImage.width", 128), ("CheckpointLoaderSimple.ckpt_name", "other.safetensors")):
        assert likeness(GRAPH.set(place, value).to_json()) != likeness(whole)
    assert likeness({str(at): {"class_type": "A", "inputs": {}} for at in range(1000)}) == "", "too large to compare"
    assert likeness({"1": "no node", "2": {"class_type": None, "inputs": [3]}, "3": {}})


@pytest.mark.parametrize(
    ("most", "waiting", "at_work", "expected"),
    [
        (1, 9, {}, 1),
        (8, 0, {}, 1),
        (8, 1, {}, 2),
        (8, 2, {}, 4),
        (8, 4, {}, 4),
        (8, 5, {}, 8),
        (8, 0, {8: 7}, 8),
        (8, 0, {8: 3}, 1),
        (8, 0, {1: 7}, 1),
        (16, 20, {}, 16),
        (3, 9, {}, 2),
    ],
)
def test_passes_are_shared_where_enough_of_their_rows_will_be_asked_for(most, waiting, at_work, expected):
    assert passes_for(most, waiting, at_work) == expected


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({}, 8),
        ({1: 1.0}, 8),
        ({8: 0.6}, 4),
        ({1: 1.0, 2: 0.9, 4: 0.7, 8: 0.6}, 8),
        ({1: 1.0, 2: 0.9, 4: 0.5, 8: 0.6}, 4),
        ({1: 1.0, 2: 0.98, 4: 1.1, 8: 1.2}, 1),
        ({2: 0.9, 4: 0.9, 8: 0.9}, 1),
    ],
)
def test_measured_costs_decide_what_is_shared_and_what_was_not_measured_is_tried(costs, expected):
    assert passes_for(8, 7, {}, costs) == expected


def test_costs_are_kept_in_the_file_and_the_newest_weighs_most(tmp_path):
    store = QueueStore(tmp_path / "queue.sqlite")
    for seconds in (1.0, 2.0):
        stats = {"passes": {"rows": 10, "seconds": seconds}}
        store.write(lambda tx, stats=stats: note_passes(tx, "like", 4, stats)).result()
    store.write(lambda tx: note_passes(tx, "like", 1, {"passes": {"rows": 0, "seconds": 0.0}})).result()
    store.close()
    again = QueueStore(tmp_path / "queue.sqlite")
    found = again.read(lambda db: costs_of(db, "like")).result()
    again.close()
    assert found == {4: pytest.approx(0.13)}


def test_a_served_prompt_has_the_bits_of_a_plain_run_unless_the_server_shares_passes(place, run, tmp_path):
    async def check():
        async with place.queue(concurrency=6, start_paused=True) as queue:
            for at, kind in enumerate(KINDS):
                await queue.submit(Submission(work(at, *kind).to_json(), prompt_id=str(at)))
            await queue.resume()
            done = [await queue.wait(str(at), 240) for at in range(len(KINDS))]
            assert [found.passes for found in done] == [1] * len(KINDS)
            found = [digest(file_of(place, one)) for one in done]
        assert found == digests_of_plain_runs(tmp_path / "plain", 1)

    run(check())


def file_of(place, prompt):
    (shown,) = [item for node in prompt.outputs.values() for item in node["images"]]
    return place.root / "output" / shown["filename"]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_arrivals_cancels_and_kills_give_each_prompt_one_digest(place, run, tmp_path, seed):
    """Short form of benchmarks/throughput.py: the bits of shared passes depend on the size of the passes alone."""
    chance = random.Random(seed)

    async def check():
        async with place.queue(concurrency=4, share_passes=4, max_crashes=1000, start_paused=True) as queue:
            for at, kind in enumerate(KINDS):
                await queue.submit(Submission(work(at, *kind).to_json(), prompt_id=str(at)))
            cancelled = Submission(work(99, "euler", 2000).to_json(), prompt_id="cancelled", front=True)
            await queue.submit(cancelled)
            await queue.resume()
            while queue.counts.running < 4:
                await asyncio.sleep(0.01)
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            await queue.cancel("cancelled")
            os.kill(queue.worker.pid, signal.SIGKILL)
            done = [await queue.wait(str(at), 240) for at in range(len(KINDS))]
            assert [one.state for one in done] == ["done"] * len(KINDS)
            assert (await queue.wait("cancelled", 240)).state == "cancelled"
        wanted = {together: digests_of_plain_runs(tmp_path / str(together), together) for together in (1, 2, 4)}
        passes = [one.passes for one in done]
        assert 4 in passes, "some of them shared"
        assert [digest(file_of(place, one)) for one in done] == [
            wanted[together][at] for at, together in enumerate(passes)
        ]

    run(check())
