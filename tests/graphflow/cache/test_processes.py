"""Several runs that need the same result compute it once, in one process and in many; a dead one blocks nobody."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import graphflow as gf
from graphflow.cache import leases

PACK = Path(__file__).parents[2] / "data" / "cache_pack"


@pytest.fixture
def small(tmp_path):
    """A workflow file of one node, given several calls to make, and one that shows what it gave."""

    def write(kind="Hang", value=1, **inputs):
        path = tmp_path / f"{kind}{value}.json"
        path.write_text(
            json.dumps(
                {
                    "1": {"class_type": kind, "inputs": {"value": value, **inputs}},
                    "2": {"class_type": "Tell", "inputs": {"value": ["1", 0]}},
                }
            )
        )
        return path

    return write


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def here(process, tmp_path, graph, monkeypatch):
    """`here()`: the same graph in this process, with the same nodes, on the same folder; gives what it shows and adds
    the nodes that it computed to the list. It waits for nobody but other processes."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls of this process"))

    def run(computed):
        calls, gate = tmp_path / "calls of this process", tmp_path / "open"
        calls.unlink(missing_ok=True)
        gate.touch()
        monkeypatch.setenv("GATE", str(gate))
        registry = gf.Registry()
        registry.add_folder(PACK)
        with gf.Engine(registry, cache=gf.Cache(tmp_path / "cache")) as engine:
            workflow = graph(a=("Hang", {"value": 1}), b=("Tell", {"value": "@a"}))
            found = engine.run(workflow)["b"].ui["value"]
        computed += [line.split()[0] for line in calls.read_text().splitlines()] if calls.exists() else []
        return found

    return run


def test_two_runs_in_one_process_compute_what_both_need_once(registry, graph, calls):
    started, go_on = threading.Event(), threading.Event()

    @gf.node("Wait", version="1")
    def wait(value: int = 0) -> int:
        calls["Wait"] += 1
        started.set()
        assert go_on.wait(30)
        return value + 1

    registry.add(wait)
    results = []
    with gf.Engine(registry) as engine:

        def work(number):
            workflow = graph(w=("Wait", {"value": 4}), a=("Add", {"a": "@w", "b": number}), o=("Show", {"value": "@a"}))
            results.append(engine.run(workflow)["o"].ui["value"][0])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        threads[0].start()
        assert started.wait(30)
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.2)
        go_on.set()
        for thread in threads:
            thread.join()
    assert calls["Wait"] == 1 and sorted(results) == ["5", "6", "7", "8"]


def test_when_the_run_that_computes_is_cancelled_or_fails_another_takes_over(registry, graph, calls):
    started, go_on, cancel = threading.Event(), threading.Event(), threading.Event()

    @gf.node("Wait", version="1")
    def wait(context: gf.Context, value: int = 0) -> int:
        calls["Wait"] += 1
        started.set()
        while not go_on.wait(0.01):
            context.check_cancelled()
        return value + 1

    registry.add(wait)
    workflow = graph(w=("Wait", {"value": 4}), o=("Show", {"value": "@w"}))
    found = []
    with gf.Engine(registry) as engine:

        def first():
            try:
                engine.run(workflow, cancel=cancel)
            except gf.Cancelled:
                found.append("cancelled")

        threads = [
            threading.Thread(target=first),
            threading.Thread(target=lambda: found.append(engine.run(workflow)["o"].ui["value"][0])),
        ]
        threads[0].start()
        assert started.wait(30)
        threads[1].start()
        time.sleep(0.1)
        cancel.set()
        threads[0].join()
        go_on.set()
        threads[1].join()
    assert found == ["cancelled", "5"] and calls["Wait"] == 2


def test_two_processes_compute_it_once_and_the_second_takes_the_result(process, small, here, tmp_path):
    running = process.start("run", small())
    wait_for(lambda: process.calls() == ["Hang"])
    computed, shown = [], []
    other = threading.Thread(target=lambda: shown.append(here(computed)))
    other.start()
    time.sleep(0.3)
    assert not shown and not computed
    (tmp_path / "gate").touch()
    other.join(30)
    assert running.wait(30) == 0
    running.communicate()
    assert shown == [[2]] and "Hang" not in computed


def test_a_process_that_was_killed_while_it_computed_blocks_nobody(process, small, here):
    running = process.start("run", small())
    wait_for(lambda: process.calls() == ["Hang"])
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    computed = []
    began = time.monotonic()
    assert here(computed) == [2] and "Hang" in computed
    assert time.monotonic() - began < 25, "nobody waits until its lease is stale, for 30 s"


def test_a_process_that_was_stopped_blocks_others_for_a_time_and_then_no_more(
    process, small, here, tmp_path, monkeypatch
):
    monkeypatch.setattr(leases, "STALE", 1.0)
    running = process.start("run", small())
    wait_for(lambda: process.calls() == ["Hang"])
    os.kill(running.pid, signal.SIGSTOP)
    try:
        computed = []
        assert here(computed) == [2] and "Hang" in computed
        (tmp_path / "gate").touch()
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert running.wait(30) == 0, "it ends well when it goes on"
    running.communicate()
    computed = []
    assert here(computed) == [2] and "Hang" not in computed


def test_whoever_holds_a_lease_keeps_it_by_renewing_and_only_one_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "STALE", 0.5)
    monkeypatch.setattr(leases, "RENEW", 0.1)
    one, two = leases.Leases(tmp_path), leases.Leases(tmp_path)
    lease = one.take("x")
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        assert two.take("x") is None
        time.sleep(0.1)
    one.give_back(lease)
    again = two.take("x")
    assert again is not None and one.take("x") is None
    two.close()
    assert not list(tmp_path.iterdir())
    one.close()


def test_a_lease_that_is_given_back_twice_closes_no_file_of_others(tmp_path):
    mine = leases.Leases(tmp_path / "leases")
    (tmp_path / "leases").mkdir()
    by_its_holder, by_the_end = mine.take("x"), mine.take("y")
    mine.give_back(by_its_holder)
    mine.close()
    others = [os.open(tmp_path / f"other{i}", os.O_CREAT | os.O_RDWR) for i in range(4)]  # two have the numbers now
    mine.give_back(by_its_holder)
    mine.give_back(by_the_end)
    for file in others:
        os.write(file, b"still open")
        os.close(file)


def test_of_many_threads_that_ask_for_a_lease_one_at_a_time_has_it(tmp_path):
    held, wrong, count = [], [], []
    holders = [leases.Leases(tmp_path) for _ in range(6)]

    def work(mine):
        for _ in range(60):
            lease = mine.take("x")
            if lease is not None:
                held.append(mine)
                if len(held) > 1:
                    wrong.append(list(held))
                count.append(1)
                held.remove(mine)
                mine.give_back(lease)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in holders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and count
    for mine in holders:
        mine.close()


WRITER = """
import sys, torch, graphflow as gf
from graphflow.cache.entry import Origin
cache = gf.Cache(sys.argv[1], memory=0)
number = int(sys.argv[2])
while True:
    number += 1
    value = {"samples": torch.full((1, 4, 64, 64), float(number))}
    entry, encoded = cache.make((value, number), {"n": [number]}, 1.0)
    recipe = number.to_bytes(16, "big")
    lease = cache.lease(recipe)[1]
    cache.put(recipe, recipe, entry, encoded, Origin("Writer"), lease)
    if number % 5 == 0:
        cache.checkpoint(recipe, 0.0).save(lambda: value)
        cache.flush()
        print(number, flush=True)
"""


def test_after_a_kill_at_any_moment_no_half_written_result_is_ever_read(tmp_path):
    import subprocess
    import sys

    chosen = random.Random(3)
    writers = []
    for number in range(3):
        writers.append(
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(number * 1_000_000)],
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        )
    for writer in writers:
        assert writer.stdout.readline() and writer.stdout.readline(), "ten results of each are on the disk"
    for writer in writers:
        time.sleep(chosen.random() * 0.2)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    cache = gf.Cache(tmp_path, memory=0)
    found = 0
    for start in range(3):
        for number in range(start * 1_000_000 + 1, start * 1_000_000 + 2000):
            entry = cache.get(number.to_bytes(16, "big"))
            if entry is not None:
                found += 1
                assert entry.outputs[1] == number and entry.ui == {"n": [number]}
                assert bool((entry.outputs[0]["samples"] == number).all())
    assert found > 20 and not cache.problems
    verified = cache.disk.verify()
    assert verified.damaged == verified.missing == 0 and verified.entries == found
    cache.close()
    for path in tmp_path.glob("v*/index.sqlite*"):
        path.unlink()
    rebuilt = gf.Cache(tmp_path, memory=0).disk.verify()
    assert rebuilt.entries >= found and rebuilt.damaged == rebuilt.missing == 0


def test_a_lease_of_a_dead_process_is_free_though_a_child_of_it_lives_on(tmp_path):
    import subprocess
    import sys

    code = """
import os, sys, time
from pathlib import Path
from graphflow.cache.leases import Leases
leases = Leases(Path(sys.argv[1]))
lease = leases.take("x")
child = os.fork()
if not child:
    leases.close()
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        assert leases.Leases(tmp_path).take("x") is None, "what the child closes is not its parent's lease"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        free, end = leases.Leases(tmp_path), time.monotonic() + leases.STALE / 2
        while free.take("x") is None:  # the child closes it when it gets its first turn
            assert time.monotonic() < end
            time.sleep(0.02)
        free.close()
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()
