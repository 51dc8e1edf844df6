"""The memory tier keeps what fits a budget of bytes, and counts them truly."""

import gc
import os
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as gf
from graphflow.cache import MemoryTier, Origin
from graphflow.cache.entry import CacheEntry
from graphflow.values import size_of

MB = 1 << 20


def entry(*outputs):
    return CacheEntry(outputs, (None,) * len(outputs))


def test_a_tensor_counts_with_all_the_memory_that_it_keeps_alive():
    assert size_of(torch.zeros(MB)) == pytest.approx(4 * MB, rel=0.01)
    assert size_of(torch.zeros(4, MB)[0]) == pytest.approx(16 * MB, rel=0.01)
    assert size_of(torch.zeros(1).expand(1000, 1000)) < 1000
    assert size_of(np.zeros(MB)) == pytest.approx(8 * MB, rel=0.01)
    assert size_of({"deep": [[{"x": (torch.zeros(MB),)}]]}) == pytest.approx(4 * MB, rel=0.01)


def test_the_weights_in_an_object_of_any_class_are_counted():
    class Model:
        def __init__(self):
            self.inner = {"unet": torch.nn.Linear(512, 512)}

    assert size_of(Model()) == pytest.approx(4 * 512 * 513, rel=0.05)


def test_memory_that_several_outputs_or_entries_share_counts_once():
    whole = torch.zeros(4, MB)
    assert size_of([whole[0], whole[1], whole]) == pytest.approx(16 * MB, rel=0.01)
    tier = MemoryTier(64 * MB)
    for number in range(3):
        tier.put(bytes([number]), entry(gf.values.share(whole), whole[number]))
    assert tier.bytes == pytest.approx(16 * MB, rel=0.01)
    tier.put(b"\0", entry(1))
    tier.put(b"\1", entry(1))
    assert tier.bytes == pytest.approx(16 * MB, rel=0.01)
    tier.put(b"\2", entry(1))
    assert tier.bytes < 0.01 * MB


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 40)), max_size=40))
def test_whatever_is_put_and_replaced_the_count_is_right_and_within_the_budget(puts):
    memories = [torch.zeros(size) for size in (100, 1000, 3000, 9000)]
    tier = MemoryTier(30_000)
    for recipe, memory, extra in puts:
        tier.put(bytes([recipe]), entry(memories[memory].view(-1), "x" * extra), key=bytes([100 + recipe]))
        held = [tier.peek(bytes([number])) for number in range(6)]
        entries = [found for found in held if found is not None]
        shared = {
            id(found.outputs[0].untyped_storage()): found.outputs[0].untyped_storage().nbytes() for found in entries
        }
        assert tier.bytes <= tier.budget
        assert sum(shared.values()) <= tier.bytes <= sum(shared.values()) + 1100 * len(entries)
        assert all((tier.find(bytes([100 + number])) is None) == (held[number] is None) for number in range(6))
    tier.clear()
    assert tier.bytes == 0 and len(tier) == 0


SMALL = {
    "a number": lambda i: (
        CacheEntry((i + 1000,), (os.urandom(32),), None, 0.1 + i, time.time()),
        Origin("A", "1", {"a": i + 1000}),
    ),
    "two outputs": lambda i: (
        CacheEntry((i + 1000, float(i)), (os.urandom(32), os.urandom(32)), None, 0.1 + i, time.time()),
        None,
    ),
    "what an output node shows": lambda i: (CacheEntry((), (), {"text": [str(i) * 5]}, 0.1 + i, time.time()), None),
    "a node with links": lambda i: (
        CacheEntry((i + 1000,), (os.urandom(32),), None, 0.1 + i, time.time()),
        Origin("A", "1", {"a": i + 1000}, {"x": (os.urandom(16), 0), "y": (os.urandom(16), 1)}, node=str(i) * 3),
    ),
    "a text": lambda i: (
        CacheEntry(("t" * 200 + str(i),), (os.urandom(32),), None, 0.1 + i, time.time()),
        Origin("A", "1", {"a": "q" * 300 + str(i)}, node=str(i) * 3),
    ),
}


@pytest.mark.parametrize("kind", SMALL)
def test_the_bytes_of_small_values_are_those_that_are_allocated(kind):
    count = 1000
    gc.collect()
    tracemalloc.start()
    try:
        tier = MemoryTier(1 << 30)
        for number in range(count):
            entry, origin = SMALL[kind](number)
            tier.put(os.urandom(16), entry, os.urandom(16), origin, is_stored=True)
        del entry, origin
        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert tier.bytes == pytest.approx(allocated, rel=0.2)


def test_what_was_used_least_recently_goes_first_and_what_is_too_large_is_not_kept():
    tier = MemoryTier(3 * MB)
    for name in b"abc":
        tier.put(bytes([name]), entry(torch.zeros(220_000)))
    assert tier.get(b"a") is not None
    tier.put(b"d", entry(torch.zeros(220_000)))
    assert [tier.get(bytes([name])) is not None for name in b"abcd"] == [True, False, True, True]
    tier.put(b"e", entry(torch.zeros(MB)))
    assert tier.get(b"e") is None and tier.get(b"d") is not None


def test_switching_between_two_workflows_computes_nothing_again(registry, graph, calls):
    with gf.Engine(registry) as engine:
        a = graph(n=("Tensor", {"seed": 1}), o=("Show", {"value": "@n"}))
        b = graph(
            n=("Tensor", {"seed": 2}),
            o=("Show", {"value": "@n"}),
            x=("Tensor", {"seed": 1}),
            p=("Show", {"value": "@x"}),
        )
        for workflow in (a, b, a, b):
            engine.run(workflow)
    assert calls == {"Tensor": 2, "Show": 2}


def test_a_budget_that_holds_one_workflow_forgets_the_other_and_results_stay_right(registry, graph, calls):
    with gf.Engine(registry, cache=gf.Cache(memory=100_000)) as engine:
        shown = []
        for seed in (1, 2, 1, 2):
            result = engine.run(graph(n=("Tensor", {"seed": seed}), o=("Show", {"value": "@n"})), targets=["n"])
            shown.append(float(next(iter(result["n"].outputs.values()))["samples"].sum()))
        assert shown[0] == shown[2] != shown[1] == shown[3]
        assert calls["Tensor"] == 4 and engine.cache.memory.bytes <= 100_000


def test_without_a_cache_everything_runs_every_time_and_nothing_is_kept(registry, graph, calls):
    with gf.Engine(registry, cache=gf.Cache(memory=0)) as engine:
        for _ in range(2):
            engine.run(graph(n=("Number", {}), a=("Add", {"a": "@n"}), o=("Show", {"value": "@a"})))
        assert calls == {"Number": 2, "Add": 2, "Show": 2} and engine.cache.memory.bytes == 0


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_cache_that_several_engines_share_outlives_each_of_them(registry, graph, calls, tmp_path, where):
    workflow = graph(n=("Number", {}), o=("Show", {"value": "@n"}))
    cache = gf.Cache(tmp_path) if where == "disk" else gf.Cache()
    lasting = gf.Engine(registry, cache=cache)
    for _ in range(2):
        with gf.Engine(registry, cache=cache) as engine:
            engine.run(workflow)
            with gf.Engine(registry, cache=cache) as another:
                another.run(workflow)
            engine.run(workflow)
        assert all(item.hit for item in lasting.explain(workflow))
        assert lasting.run(workflow).cached
    assert calls == {"Number": 1, "Show": 1} and not cache.problems


def test_an_engine_that_has_ended_holds_no_results_of_its_own(registry, graph):
    with gf.Engine(registry) as engine:
        engine.run(graph(n=("Number", {}), o=("Show", {"value": "@n"})))
        assert engine.cache.memory.bytes
    assert not engine.cache.memory.bytes
