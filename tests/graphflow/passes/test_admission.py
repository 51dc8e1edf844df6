"""The library decides by measured costs with how many others a run shares passes: `run_many` and sweeps."""

import math
import random
from threading import Barrier, Event

import pytest

import graphflow as gf
from graphflow.passes.admission import PassAdmission
from graphflow.passes.costs import PassCost
from graphflow.passes.store import PassStore
from graphflow.spi import NodeAnew, NodeDone, PassesMade


@pytest.fixture
def seen():
    """The number that each call of Sample had."""
    return []


@pytest.fixture
def rows():
    """The cost of a row in passes that so many runs share, as a part of that in a run's own."""
    return {1: 1.0, 2: 0.9, 4: 0.5, 8: 0.7, 16: 0.7}


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
        number = max(settings.together, settings.compare)
        settings.notify(PassesMade("cpu", 10, 1.0, 0.0, {}, ratios={number: (rows[number],)} if number > 1 else {}))
        return gf.Ui({"passes": [settings.together]})

    return gf.Registry([sample])


@pytest.fixture
def engine(types, tmp_path, monkeypatch):
    """`engine(folder)`: one with its cache in this folder; without, in memory. Its Sample stands for nodes that ask a
    model whose passes are measured, and not calculated."""
    monkeypatch.setattr(gf.Engine, "pass_costs", lambda self, workflow: {})
    return lambda folder=None: gf.Engine(types, gf.Settings(output_dir=tmp_path), gf.Cache(folder))


def work(seed, **inputs):
    return gf.Workflow.from_json({"1": {"class_type": "Sample", "inputs": {"seed": seed, **inputs}}})


def passes_of(outcomes):
    return [each.nodes["1"].ui["passes"][0] for each in outcomes]


def test_many_runs_share_once_it_was_measured_to_pay_and_the_costs_last_as_long_as_the_cache(
    engine, tmp_path, rows, seen, beside
):
    seeds = iter(range(0, 1000, 10))

    def four(one, **options):
        begin = next(seeds)
        return passes_of(one.run_many(map(work, range(begin, begin + 4)), at_once=4, share=4, **options))

    beside(4)
    with engine(tmp_path / "cache") as one:
        assert four(one) == [1, 1, 1, 1], "each alone: two of them compare with passes of 4, which are too few"
        assert four(one) == [1, 1, 1, 1]
        costs = one.passes.store.costs(one.likeness(work(0)))
        assert costs[4].ratios == (0.5,) * 4
    with engine(tmp_path / "cache") as another:
        assert four(another) == [4, 4, 4, 4]
        rows[4] = 1.2
        assert four(another) == [4, 4, 4, 4], "not known yet"
        assert four(another) == [1, 1, 1, 1], "a wrong choice ends with the next runs"
        rows[2] = 1.2
        while len(another.passes.store.costs(another.likeness(work(0)))[2].ratios) < 3:
            assert four(another) == [1, 1, 1, 1]
        rows[4] = 0.5
        tries = 0
        while four(another) != [4, 4, 4, 4]:
            tries += 1
            assert tries < 10, "and so does one that loses a gain"
    seen.clear()
    with engine(tmp_path / "cache") as again:
        assert passes_of(again.run_many(map(work, range(4)), at_once=4, share=4)) == [1, 1, 1, 1], "as it was decided"
        assert seen == [], "so it comes from the cache"
        found = passes_of(again.run_many(map(work, range(4)), at_once=4, share=4, refresh=True))
        assert found == [4, 4, 4, 4], "it is decided anew"


def test_what_was_never_measured_is_shared_where_it_is_calculated_to_be_clearly_cheaper(tmp_path):
    prompt = gf.Workflow.load("workflows/text_to_image.json").set("EmptyLatentImage.batch_size", 1)
    small, large = ({"EmptyLatentImage.width": side, "EmptyLatentImage.height": side} for side in (64, 512))
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path, device="cpu")) as one:
        assert one.pass_costs(prompt.set_all(small))[8] < 0.5
        assert one.pass_costs(prompt.set_all(large))[8] == 1.0, "such passes have one size"
        assert not one.pass_costs(prompt.set("KSampler.steps", "many")), "it is wrong, and reported when it runs"
        sharing = one._sharing(8, is_new=False)
        for changes, passes in ((small, 8), (large, 1)):
            each = prompt.set_all(changes)
            admitted = sharing.begin(each, sharing.kind(each), beside=7, behind=0)
            assert (admitted.passes, admitted.compare) == (passes, 1)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_runs_take_at_most_3_percent_longer_than_alone_and_gain_what_there_is_to_gain(ratio, seed):
    """Batches of 8 equal runs, of 20 passes each, on a device that compares passes as ours does, in two hundredths of
    its time, on a machine where each measurement is wrong by up to a third."""
    chance = random.Random(seed)
    admission = PassAdmission(PassStore(None))
    alone = spent = 0.0
    compared, worked, shared = 0.0, 0.0, 0
    for batch in range(150):
        runs = [admission.admit("like", f"{batch} {at}", 8, 7 - at) for at in range(8)]
        for run in runs:
            with run:
                alone += 20.0
                number = max(run.passes, run.compare)
                measured = (ratio * chance.uniform(0.75, 1.33),) if number > 1 else ()
                if run.passes > 1:
                    spent += 20.0 * ratio
                    shared += 1
                else:
                    spent, worked = spent + 20.0, worked + 20.0
                    if number > 1 and compared + number * ratio <= 0.02 * worked:
                        compared += number * ratio
                    else:
                        measured = ()
                if measured:
                    run.heard(lambda _: None)(PassesMade("cpu", 1, 1.0, 0.0, {}, ratios={number: measured}))
    assert spent + compared <= 1.03 * alone
    if ratio <= 0.5:
        assert shared > 800, "of 1200"


def test_runs_that_began_alone_are_followed_by_runs_that_share_where_more_are_waiting(engine, rows, seen):
    """On an engine that is never idle no two runs begin at the same time."""
    rows[4] = rows[2] = 0.5
    with engine() as one:
        found = passes_of(one.run_many(map(work, range(40)), at_once=4, share=4))
        assert found[:3] == [1, 1, 1]
        assert found[20:36] == [4] * 16


def test_only_runs_that_are_alike_and_begin_together_share(engine, beside):
    def taught(one, *workflows):
        for workflow in workflows:
            one.passes.store.note(one.likeness(workflow), {number: PassCost(calculated=0.5) for number in (2, 4)})
        return one

    beside(4)
    with engine() as one:
        taught(one, work(0), work(0, width=128))
        many = [work(1), work(2, width=128), work(3), work(4)]
        assert passes_of(one.run_many(many, at_once=4, share=4)) == [4, 1, 4, 4], "three of four rows are enough"
        assert passes_of(one.run_many(map(work, range(10, 14)), at_once=4)) == [1] * 4, "nobody asked for it"
    beside(1)
    with engine() as one:
        taught(one, work(0))
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
        assert run(one, range(16)) == [1] * 16, "alone, and compared with passes of 16"
        assert run(one, range(20, 36)) == [1] * 16, "which do not pay; of 8, neither"
        assert run(one, range(40, 56)) == [1] * 16
        assert run(one, range(60, 76)) == [4] * 16
        assert run(one, range(100, 116), exact=True) == [1] * 16
    seen.clear()
    with engine(tmp_path / "cache") as again:
        assert run(again, range(60, 76)) == [4] * 16
        assert seen == []


def test_samplers_that_memory_is_too_short_for_begin_anew_alone_and_such_passes_are_not_tried_again(
    engine, seen, beside
):
    events = []
    beside(4)
    with engine() as one:
        kind = one.likeness(work(0, short=True))
        one.passes.store.note(kind, {4: PassCost(calculated=0.5)})
        many = [work(seed, short=True) for seed in range(4)]
        found = one.run_many(many, at_once=4, share=4, on_event=lambda _, event: events.append(event))
        assert passes_of(found) == [1, 1, 1, 1]
        assert sorted(seen) == [1, 1, 1, 1, 4, 4, 4, 4]
        assert sum(isinstance(event, NodeAnew) for event in events) == 4
        assert one.passes.store.costs(kind)[4].ratios == (math.inf,) * 4
        many = [work(seed, short=True) for seed in range(10, 14)]
        one.run_many(many, at_once=4, share=4)
        assert 4 not in seen[8:]


def test_runs_that_share_are_expected_by_each_other_until_they_end():
    admission = PassAdmission(PassStore(None))
    costs = {number: 0.5 for number in (2, 4, 8, 16)}
    first, second = (admission.admit("like", f"{at}", 2, 1 - at, calculate=lambda: costs) for at in range(2))
    unlike = admission.admit("unlike", "2", 2, 1, calculate=lambda: costs)
    alone = admission.admit("like", "3", 1, 1)
    assert [run.passes for run in (first, second, unlike, alone)] == [2, 2, 2, 1]
    assert first.expected.others_come and not unlike.expected.others_come and alone.expected is None
    second.end()
    assert not first.expected.others_come


def test_the_last_of_runs_that_ask_no_model_has_the_number_of_those_before_it():
    admission = PassAdmission(PassStore(None))
    runs = [admission.admit("like", f"{at}", 4, 3 - at, calculate=lambda: None) for at in range(4)]
    assert [run.passes for run in runs] == [4] * 4
