"""The folder keeps to its budget; what a running graph holds stays, whoever evicts."""

import subprocess
import sys
import threading
import time

import pytest

import graphflow as gf

EVICT = """
import sys, graphflow as gf
cache = gf.Cache(sys.argv[1])
print(cache.disk.evict(0))
cache.close()
"""


def evict_in_another_process(folder):
    return int(subprocess.check_output([sys.executable, "-c", EVICT, str(folder)], text=True, timeout=300))


@pytest.fixture
def tensors(graph):
    """A workflow of tensors of 64 KB, one for each seed."""

    def build(*seeds):
        return graph(
            **{f"t{seed}": ("Tensor", {"seed": seed}) for seed in seeds},
            **{f"o{seed}": ("Show", {"value": f"@t{seed}"}) for seed in seeds},
        )

    return build


def blobs(folder):
    return len(list(folder.glob("v*/blobs/*/*")))


def test_after_a_run_the_folder_is_within_its_budget_and_what_was_used_last_is_kept(registry, tensors, tmp_path, calls):
    size = 600_000
    for seed in range(12):
        with gf.Engine(registry, cache=gf.Cache(tmp_path, size=size, memory=1)) as engine:
            engine.run(tensors(seed))
            if seed:
                engine.run(tensors(0), targets=["t0"])
        assert engine.cache.disk is not None
        total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and "index" not in path.name)
        assert total <= size
    assert calls["Tensor"] == 12, "the one that was used all the time was never dropped"
    with gf.Engine(registry, cache=gf.Cache(tmp_path)) as engine:
        engine.run(tensors(11), targets=["t11"])
        assert calls["Tensor"] == 12
        engine.run(tensors(1), targets=["t1"])
        assert calls["Tensor"] == 13


def test_small_results_count_too_so_the_index_does_not_grow_without_end(registry, graph, tmp_path):
    with gf.Engine(registry, cache=gf.Cache(tmp_path, size=150_000)) as engine:
        for value in range(600):
            engine.cache.memory.clear()
            engine.run(graph(n=("Number", {"value": value}), o=("Show", {"value": "@n"})))
        assert engine.cache.disk.total_bytes() <= 150_000
        assert 50 < sum(row.entries for row in engine.cache.disk.stats()) < 1200


@pytest.mark.parametrize("memory", [1, 1 << 30], ids=["from the disk", "from memory"])
def test_what_a_running_graph_holds_is_not_evicted_even_by_another_process(registry, tensors, tmp_path, calls, memory):
    started, go_on = threading.Event(), threading.Event()

    @gf.node("Wait", version="1", output=True)
    def wait(value: gf.AnyType) -> gf.Ui:
        started.set()
        assert go_on.wait(60)
        return gf.Ui({})

    registry.add(wait)
    with gf.Engine(registry, cache=gf.Cache(tmp_path, memory=memory)) as engine:
        engine.run(tensors(1, 2))
        document = {**tensors(1).to_json(), "w": {"class_type": "Wait", "inputs": {"value": ["t1", 0]}}}
        thread = threading.Thread(target=engine.run, args=(gf.Workflow.from_json(document),), kwargs={"targets": ["w"]})
        time.sleep(1.1)
        thread.start()
        assert started.wait(60)
        end = time.monotonic() + 60
        while engine.cache._tiers._used:  # what a run uses is noted by itself, within a second or so
            assert time.monotonic() < end
            time.sleep(0.02)
        engine.cache.flush()  # the note is on the disk
        gone = evict_in_another_process(tmp_path)
        go_on.set()
        thread.join()
        assert gone > 0 and blobs(tmp_path) == 1, "the tensor that nobody used has gone, the other one stayed"
    count = calls["Tensor"]
    with gf.Engine(registry, cache=gf.Cache(tmp_path)) as engine:
        engine.run(tensors(1), targets=["t1"])
        assert calls["Tensor"] == count
    assert evict_in_another_process(tmp_path) > 0 and blobs(tmp_path) == 0


def test_a_blob_that_two_entries_share_stays_until_both_are_gone(registry, graph, tmp_path):
    with gf.Engine(registry, cache=gf.Cache(tmp_path)) as engine:
        engine.run(graph(t=("Tensor", {"seed": 1}), a=("Any", {"value": "@t"}), o=("Show", {"value": "@a"})))
        disk = engine.cache.disk
        assert blobs(tmp_path) == 1 and {row.type: row.bytes > 60_000 for row in disk.stats()} == {
            "Tensor": True,
            "Any": True,
            "Show": False,
        }
        old = disk.index._db.execute("SELECT recipe FROM entries WHERE type = 'Tensor'").fetchone()[0]
        disk.index._db.execute("UPDATE entries SET used = 1 WHERE recipe = ?", (old,))
        assert disk.evict(None, used_before=2) == 1
        assert blobs(tmp_path) == 1 and disk.verify().missing == 0
        disk.evict(None)
        assert blobs(tmp_path) == 0


def test_leftovers_of_dead_processes_are_swept_and_those_of_live_ones_are_not(registry, tensors, tmp_path):
    import os

    with gf.Engine(registry, cache=gf.Cache(tmp_path)) as engine:
        engine.run(tensors(1))
    blobs = next(tmp_path.glob("v*/blobs"))
    for name, age in [(".dead", 7200), (".live", 0), ("ab" * 32, 7200), ("cd" * 32, 0)]:
        path = blobs / name.strip(".")[:2] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"part")
        os.utime(path, (time.time() - age,) * 2)
    cache = gf.Cache(tmp_path)
    disk, old, new = cache.disk, cache.checkpoint(b"o" * 16, 0.0), cache.checkpoint(b"n" * 16, 0.0)
    old.save(lambda: 1)
    new.save(lambda: 1)
    os.utime(disk.checkpoints.path(b"o" * 16), (1, 1))
    assert disk.verify().leftovers == 3
    assert (blobs / "li" / ".live").exists() and (blobs / "cd" / ("cd" * 32)).exists()
    assert not (blobs / "de" / ".dead").exists() and not (blobs / "ab" / ("ab" * 32)).exists()
    assert old.load() is None and new.load() == 1
    assert disk.verify().blobs == 1


def test_sizes_and_ages_are_written_as_people_write_them():
    import argparse

    from graphflow.cli.cache import _age
    from graphflow.cli.common import parse_size

    assert [parse_size(text) for text in ("20GB", "500 mb", "1.5k", "7", "1TiB")] == [
        20 << 30,
        500 << 20,
        1536,
        7,
        1 << 40,
    ]
    assert [_age(text) for text in ("7d", "12h", "30m", "1.5w", "5s")] == [604800, 43200, 1800, 907200, 5]
    for parse, text in [
        (parse_size, "much"),
        (parse_size, ""),
        (_age, "7"),
        (_age, "soon"),
        (parse_size, "1..5GB"),
        (_age, ".d"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


def test_what_no_running_graph_has_used_makes_room_while_a_long_run_goes_on(registry, tensors, tmp_path):
    size = 1_000_000
    with gf.Engine(registry, cache=gf.Cache(tmp_path, size=size, memory=1)) as engine:
        engine.run(tensors(*range(12)))
        before = engine.cache.disk.total_bytes()
        assert before > 0.7 * size
        largest = []

        def look(event):
            if isinstance(event, gf.events.NodeDone):
                engine.cache.flush()
                largest.append(engine.cache.disk.total_bytes())

        engine.run(tensors(*range(100, 112)), on_event=look)
    assert max(largest) < before + 6 * 70_000, "the first run's results went while the second was going on"
