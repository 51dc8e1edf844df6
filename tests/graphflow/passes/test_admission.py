"""The library decides by measured costs with how many others a run shares passes: `run_many` and sweeps."""

import math
from threading import Barrier, Event

import pytest

import graphflow as gf
from graphflow.spi import NodeAnew, NodeDone, PassesMade

OWN = 1.0
"""Seconds of a row in passes of a run's own size."""


@pytest.fixture
def seen():
    """The number that each call of Sample had."""
    return []


@pytest.fixture
def rows():
    """What a row costs, by the number of runs that share passes."""
    return {1: OWN, 2: 0.9, 4: 0.5, 8: 0.7, 16: 0.7}


@pytest.fixture
def beside():
    """`beside(count)`: from now on a sampler waits until so many have begun."""
    found = [Barrier(1)]

    def set_count(count):
        found[0] = Barrier(count)

    set_count.wait = lambda: found[0].wait(60)
    return set_count


def environment(settings):
    return f"passes of {settings.together}"


@pytest.fixture
def types(seen, rows, beside):
    @gf.node("Sample", version="1", output=True, lane="device", in_turns=True, together=True, environment=environment)
    def sample(settings: gf.Settings, seed: int = 0, width: int = 64, short: bool = False) -> gf.Ui:
        """Reports what its passes cost, as a device does."""
        seen.append(settings.together)
        beside.wait()
        if short and settings.together > 1:
            raise MemoryError
        row = rows[settings.together]
        settings.notify(PassesMade("cpu", 10, 10 * row, 0.0, {}, row=row, own_row=OWN))
        return gf.Ui({"passes": [settings.together]})

    return gf.Registry([sample])


@pytest.fixture
def engine(types, tmp_path):
    """`engine(folder)`: one with its cache in this folder; without, in memory."""
    return lambda folder=None: gf.Engine(types, gf.Settings(output_dir=tmp_path), gf.Cache(folder))


def work(seed, **inputs):
    return gf.Workflow.from_json({"1": {"class_type": "Sample", "inputs": {"seed": seed, **inputs}}})


def passes_of(outcomes):
    return [each.nodes["1"].ui["passes"][0] for each in outcomes]


def test_many_runs_share_where_it_pays_and_the_costs_last_as_long_as_the_cache(engine, tmp_path, rows, seen, beside):
    rows[4] = 0.98
    beside(4)
    with engine(tmp_path / "cache") as one:
        assert passes_of(one.run_many(map(work, range(4)), at_once=4, share=4)) == [4, 4, 4, 4], "tried"
    with engine(tmp_path / "cache") as another:
        found = passes_of(another.run_many(map(work, range(10, 14)), at_once=4, share=4))
        assert found == [2, 2, 2, 2], "4 is not 3 % cheaper than alone; 2 is tried"
        assert passes_of(another.run_many(map(work, range(20, 24)), at_once=4, share=4)) == [2, 2, 2, 2]
        rows[2] = 5.0
        for at in range(30, 60, 10):
            passes_of(another.run_many(map(work, range(at, at + 4)), at_once=4, share=4))
        assert passes_of(another.run_many(map(work, range(60, 64)), at_once=4, share=4)) == [1, 1, 1, 1]
    seen.clear()
    with engine(tmp_path / "cache") as again:
        assert passes_of(again.run_many(map(work, range(4)), at_once=4, share=4)) == [4, 4, 4, 4], "as it was decided"
        assert seen == [], "so it comes from the cache"
        found = passes_of(again.run_many(map(work, range(4)), at_once=4, share=4, refresh=True))
        assert found == [1, 1, 1, 1], "it is decided anew"


def test_only_runs_that_are_alike_and_begin_together_share(engine, beside):
    beside(4)
    with engine() as one:
        many = [work(1), work(2, width=128), work(3), work(4)]
        assert passes_of(one.run_many(many, at_once=4, share=4)) == [4, 1, 4, 4], "three of four rows are enough"
        assert passes_of(one.run_many(map(work, range(10, 14)), at_once=4)) == [1] * 4, "nobody asked for it"
    beside(1)
    with engine() as one:
        assert passes_of(one.run_many([work(1)], at_once=4, share=4)) == [1], "nobody is beside it"
        assert passes_of(one.run_many(map(work, range(5)), at_once=1, share=4)) == [1] * 5
        asked = [work(1), gf.Workflow.from_json({"1": {"class_type": "Unknown", "inputs": {}}})]
        found = one.run_many(asked, at_once=2, share=2)
        assert isinstance(found[0], gf.Result)
        assert isinstance(found[1], gf.InvalidWorkflow)


def test_a_sweep_decides_once_for_all_its_variants_and_again_as_it_was_decided(engine, tmp_path, rows, seen):
    def run(one, seeds, **options):
        results = gf.sweep(work(0), {"1.seed": seeds}).run(one, **options)
        return [item.nodes["1"].ui["passes"][0] for item in results]

    rows[16] = rows[8] = 1.0
    cancel = Event()

    def stop(event):
        if isinstance(event, NodeDone):
            cancel.set()

    with engine(tmp_path / "cache") as one:
        with pytest.raises(gf.Cancelled):
            run(one, range(16), cancel=cancel, on_event=stop)
        assert run(one, range(16)) == [16] * 16, "not measured before"
        assert run(one, range(20, 36)) == [8] * 16, "16 does not pay; 8 is tried"
        assert run(one, range(40, 56)) == [4] * 16
        assert run(one, range(60, 76)) == [2] * 16
        assert run(one, range(80, 96)) == [4] * 16, "the cheapest"
        assert run(one, range(100, 116), exact=True) == [1] * 16
    seen.clear()
    with engine(tmp_path / "cache") as again:
        assert run(again, range(16)) == [16] * 16
        assert seen == []


def test_samplers_that_memory_is_too_short_for_begin_anew_alone_and_such_passes_are_not_tried_again(
    engine, seen, beside
):
    events = []
    beside(4)
    with engine() as one:
        many = [work(seed, short=True) for seed in range(4)]
        found = one.run_many(many, at_once=4, share=4, on_event=lambda _, event: events.append(event))
        assert passes_of(found) == [1, 1, 1, 1]
        assert sorted(seen) == [1, 1, 1, 1, 4, 4, 4, 4]
        assert sum(isinstance(event, NodeAnew) for event in events) == 4
        kind = one.likeness(work(0, short=True))
        assert one.passes.store.costs(kind) == {4: math.inf}
        many = [work(seed, short=True) for seed in range(10, 14)]
        one.run_many(many, at_once=4, share=4)
        assert 4 not in seen[8:]
