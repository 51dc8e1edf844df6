"""A folder may be cleared, pruned or removed while others work on it: they go on, and keep their results again."""

import shutil

import pytest

import graphflow as gf


@pytest.fixture
def made(calls):
    @gf.node("Make", version="1")
    def make(v: int) -> gf.AnyType:
        calls[v] += 1
        return [v] * 3000

    @gf.node("Length", version="1", output=True)
    def length(value: gf.AnyType) -> gf.Ui:
        calls["Length"] += 1
        return gf.Ui({"value": [len(value)]})

    return gf.Registry([make, length])


@pytest.fixture
def run(graph):
    def run(engine, v):
        return engine.run(graph(m=("Make", {"v": v}), o=("Length", {"value": "@m"})), targets=["m", "o"])

    return run


def clear(folder):
    with gf.Cache(folder) as cache:
        assert cache.clear()


def prune(folder):
    with gf.Cache(folder) as cache:
        cache.disk.evict(0)


@pytest.mark.parametrize("empty", [clear, prune, shutil.rmtree])
def test_an_engine_that_lives_on_keeps_what_it_computes_and_what_it_has_in_memory(made, run, calls, tmp_path, empty):
    folder = tmp_path / "cache"
    with gf.Engine(made, cache=gf.Cache(folder)) as engine:
        run(engine, 1)
        empty(folder)
        run(engine, 2)
        run(engine, 1)
        assert calls == {1: 1, 2: 1, "Length": 2} and not engine.cache.problems
    with gf.Engine(made, cache=gf.Cache(folder)) as engine:
        for v in (1, 2):
            run(engine, v)
        assert calls == {1: 1, 2: 1, "Length": 2} and not engine.cache.problems


def test_a_clear_in_the_middle_of_a_run_harms_nobody(made, run, graph, calls, tmp_path):
    @gf.node("Clear", version="1")
    def clears(value: gf.AnyType) -> gf.AnyType:
        clear(tmp_path)
        return value

    made.add(clears)
    with gf.Engine(made, cache=gf.Cache(tmp_path)) as engine:
        shown = engine.run(graph(m=("Make", {"v": 1}), c=("Clear", {"value": "@m"}), o=("Length", {"value": "@c"})))
        assert shown["o"].ui == {"value": [3000]} and not engine.cache.problems
    with gf.Engine(made, cache=gf.Cache(tmp_path)) as engine:
        assert engine.run(graph(m=("Make", {"v": 1}), c=("Clear", {"value": "@m"}), o=("Length", {"value": "@c"})))
        assert engine.cache.disk.verify().damaged == 0 and not engine.cache.problems


def test_a_cleared_folder_holds_no_results_no_records_and_no_states(made, run, tmp_path):
    with gf.Engine(made, cache=gf.Cache(tmp_path)) as engine:
        run(engine, 1)
        engine.cache.checkpoint(b"r" * 16, 0.0).save(lambda: {"step": 1}, at_once=True)
        size = engine.cache.disk.total_bytes()
        assert engine.cache.clear() and engine.cache.disk.total_bytes() < size
        assert not engine.cache.disk.stats() and engine.cache.checkpoint(b"r" * 16, 0.0).load() is None
    assert not [path for path in tmp_path.glob("v*/*/*/*") if path.is_file()]


def test_what_an_earlier_clear_put_aside_and_did_not_finish_is_removed(tmp_path, monkeypatch):
    from graphflow.cache import care

    monkeypatch.setattr(care, "ABANDONED", -10.0)
    left = tmp_path / ".v3-0123" / "blobs"
    left.mkdir(parents=True)
    with gf.Cache(tmp_path) as cache:
        assert cache.disk.verify().leftovers == 1
    assert not left.exists()
