"""How many prompts share passes, and that each image depends on that number alone."""

import asyncio
import hashlib
import os
import random
import signal
import time

import pytest
from graphflow_server.queue import Submission, claims, ledger, reading
from graphflow_server.queue.store import QueueStore
from graphflow_server.queue.turns import Turns
from PIL import Image

from graphflow import Engine, Settings, Workflow
from graphflow.spi import PassCost, likeness, note_cost

GRAPH = Workflow.load("workflows/text_to_image.json").set("EmptyLatentImage.batch_size", 1)
LIKENESS = likeness(GRAPH.to_json())
KINDS = [("euler", 6), ("dpmpp_2m", 8), ("euler_ancestral", 5), ("heun", 4), ("ddim", 7), ("lms", 6)]


def work(at, name, steps):
    return GRAPH.set_all({"KSampler.seed": at, "KSampler.sampler_name": name, "KSampler.steps": steps})


def digest(path):
    with Image.open(path) as opened:
        return hashlib.sha256(opened.tobytes()).hexdigest()


def digests_of_plain_runs(folder, together):
    with Engine(settings=Settings(output_dir=folder, together=together)) as engine:
        return [digest(engine.run(work(at, *kind)).images[0].path) for at, kind in enumerate(KINDS)]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """The digests of plain runs, by the number of those that share passes."""
    folder = tmp_path_factory.mktemp("plain")
    return {together: digests_of_plain_runs(folder / str(together), together) for together in (1, 2, 4)}


def test_a_served_prompt_has_the_bits_of_a_plain_run_unless_the_server_shares_passes(place, run, wanted):
    async def check():
        async with place.queue(concurrency=6, start_paused=True) as queue:
            for at, kind in enumerate(KINDS):
                await queue.submit(Submission(work(at, *kind).to_json(), prompt_id=str(at)))
            await queue.resume()
            done = [await queue.wait(str(at), 240) for at in range(len(KINDS))]
            assert [found.passes for found in done] == [1] * len(KINDS)
            found = [digest(file_of(place, one)) for one in done]
        assert found == wanted[1]

    run(check())


def file_of(place, prompt):
    (shown,) = [item for node in prompt.outputs.values() for item in node["images"]]
    return place.root / "output" / shown["filename"]


def test_measured_costs_of_a_worker_decide_and_calculated_ones_where_it_has_not_measured(tmp_path):
    store = QueueStore(tmp_path / "queue.sqlite")
    names = iter(range(1000))

    def submit(count, **options):
        graph = GRAPH.set("KSampler.seed", next(names)).to_json()
        for _ in range(count):
            store.write(lambda tx: ledger.accept(tx, Submission(graph, prompt_id=str(next(names)), **options))).result()

    def begin(worker, count=2, concurrency=2):
        """(passes, compare) of prompts that begin on a worker, which ends them again."""
        found, turns = [], Turns(concurrency, prefers_alike=True)
        for _ in range(count):
            taken = store.write(lambda tx: claims.claim(tx, turns, [one.id for one in found], 2, worker)).result()
            turns.began(taken.id, taken.client, taken.alone, taken.likeness)
            found.append(taken)
        for one in found:
            store.write(lambda tx, one=one: ledger.finish(tx, one.id, one.epoch, "execution_success", {})).result()
        return [(one.passes, one.compare) for one in found]

    def note(worker, cost):
        store.write(lambda tx: note_cost(tx.db, claims.costs_key(LIKENESS, worker), 2, cost, time.time())).result()

    try:
        submit(2, priority=3, within=60.0)
        found = store.read(lambda db: reading.find(db, "1")).result()
        assert (found.priority, found.compare) == (3, 1) and found.deadline > time.time()
        assert begin("a") == [(1, 2), (1, 1)], "the first compares its passes with those that both could share"
        submit(2, pass_costs={2: 0.6})
        assert begin("a") == [(2, 1), (2, 1)]
        note("a", PassCost((1.1, 1.2, 1.1), 0.6))
        submit(2)
        assert begin("a") == [(1, 2), (1, 1)], "it does not pay there"
        submit(2)
        assert begin("b") == [(2, 1), (2, 1)], "another worker has measured nothing"
        note("a", PassCost((0.7,) * 8))
        submit(2)
        assert begin("a") == [(2, 1), (2, 1)], "and so a wrong choice ends"
    finally:
        store.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_random_arrivals_cancels_and_kills_give_each_prompt_one_digest(place, run, wanted, seed):
    """Short form of benchmarks/throughput.py: the bits of shared passes depend on the size of the passes alone."""
    chance = random.Random(seed)

    async def check():
        async with place.queue(concurrency=4, share_passes=4, max_crashes=1000, start_paused=True) as queue:
            for at, kind in enumerate(KINDS):
                graph = work(at, *kind).to_json()
                await queue.submit(Submission(graph, prompt_id=str(at), pass_costs={2: 0.7, 4: 0.5}))
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
        passes = [one.passes for one in done]
        assert 4 in passes, "some of them shared"
        assert [digest(file_of(place, one)) for one in done] == [
            wanted[together][at] for at, together in enumerate(passes)
        ]

    run(check())
