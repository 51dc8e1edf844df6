"""Forward passes are shared by whoever may share them, and change no bit."""

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
import torch
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.passes import PassLoop
from graphflow_nodes.devices.sizes import SIZES, factor, size_of_passes
from graphflow_nodes.model.row import Row

from graphflow import GraphFlowError

CPU = torch.device("cpu")


class Network(torch.nn.Module):
    """A product of matrices, whose bits depend on the number of rows; it notes how many rows each pass had."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(96, 96), torch.nn.GELU(), torch.nn.Linear(96, 96))
        self.passes = []


def forward(module, stacked, common, ragged):
    module.passes.append(len(stacked["x"]))
    return {"out": module.layers(stacked["x"]) * stacked["time"][:, None]}


def rows(seed, count=1, width=96):
    generator = torch.Generator().manual_seed(seed)
    return [
        Row({"x": torch.randn(width, generator=generator), "time": torch.tensor(float(seed + index))})
        for index in range(count)
    ]


def alone(network, size, asked):
    with PassLoop(CPU).seat(size) as seat:
        return [seat.ask(ForwardCall("n", network, forward), one) for one in asked]


def test_a_pass_has_its_size_whatever_is_asked_and_each_row_gets_its_own_answer():
    network = Network()
    with PassLoop(CPU).seat(4) as seat:
        answers = seat.ask(ForwardCall("n", network, forward), rows(1, 6))
    assert network.passes == [4, 4], "six rows are two passes of four; the second is filled up"
    stacked = torch.stack([row.stacked["x"] for row in rows(1, 6)])
    for index, answer in enumerate(answers):
        assert torch.allclose(answer["out"], network.layers(stacked)[index] * (1.0 + index), atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 8, 16])
def test_random_arrivals_have_the_bits_of_runs_alone_at_the_same_size(size):
    network, call_of = Network(), lambda network: ForwardCall("n", network, forward)
    chance = random.Random(size)
    samplers = [[rows(100 * who + step, 1 + who % 3) for step in range(12)] for who in range(6)]
    wanted = [alone(network, size, asked) for asked in samplers]
    network.passes.clear()
    loop = PassLoop(CPU)
    pauses = [[chance.choice([0, 0, 0.0005, 0.003]) for _ in range(12)] for _ in samplers]
    barrier = Barrier(len(samplers))

    def run(asked, waits):
        found = []
        with loop.seat(size) as seat:
            barrier.wait(10)
            for one, wait in zip(asked, waits, strict=True):
                time.sleep(wait)
                found.append(seat.ask(call_of(network), one))
        return found

    with ThreadPoolExecutor(len(samplers)) as pool:
        results = list(pool.map(run, samplers, pauses))
    assert set(network.passes) == {size}
    for mine, theirs in zip(results, wanted, strict=True):
        for step, before in zip(mine, theirs, strict=True):
            for a, b in zip(step, before, strict=True):
                assert torch.equal(a["out"], b["out"])
    if size > 4:
        assert loop.counts.shared > 0, "some of them met in a pass"


def test_samplers_that_ask_together_share_passes():
    network, loop = Network(), PassLoop(CPU)
    barrier = Barrier(4)

    def slow(*inputs):  # a pass takes longer than a thread needs to come back with its next question
        time.sleep(0.01)
        return forward(*inputs)

    def run(who):
        with loop.seat(8) as seat:
            call = ForwardCall("n", network, slow)
            barrier.wait(10)
            for step in range(30):
                seat.ask(call, rows(who + step, 2))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert loop.counts.rows == 240
    assert sum(loop.counts.passes.values()) <= 60, "240 rows would be 30 full passes of 8, and 120 if nobody met"


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ("another network", lambda n: (ForwardCall("m", n, forward), rows(2))),
        ("another width", lambda n: (ForwardCall("n", n, lambda m, s, c, r: {"out": s["x"]}), rows(2, width=32))),
        (
            "another common value",
            lambda n: (ForwardCall("n", n, forward), [Row(rows(2)[0].stacked, common=((4, 16),))]),
        ),
        ("a call that keeps to itself", lambda n: (ForwardCall("n", n, forward, shares=False), rows(2))),
    ],
)
def test_rows_that_differ_in_what_a_call_sees_never_share_a_pass(change, other):
    network, loop = Network(), PassLoop(CPU)
    busy, both = Event(), Barrier(2)

    def run(call, asked):
        with loop.seat(4) as seat:
            both.wait(10)
            seat.ask(call, asked)

    with ThreadPoolExecutor(3) as pool:
        holding = pool.submit(loop.run, busy.wait, 10)
        asking = [pool.submit(run, ForwardCall("n", network, forward), rows(1)), pool.submit(run, *other(network))]
        time.sleep(0.1)
        busy.set()
        for one in asking:
            one.result(10)
        holding.result(10)
    assert sum(loop.counts.passes.values()) == 2 and loop.counts.shared == 0


def test_one_slow_sampler_does_not_stop_the_others():
    network, loop = Network(), PassLoop(CPU)
    call, slow_asked, others_are_done = ForwardCall("n", network, forward), Event(), Event()

    def slow():
        with loop.seat(8) as seat:
            seat.ask(call, rows(1, 2))
            slow_asked.set()
            return others_are_done.wait(60)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slow)
        slow_asked.wait(60)
        with loop.seat(8) as seat:
            for step in range(5):
                seat.ask(call, rows(step, 2))
        others_are_done.set()
        assert waiting.result(60), "the others were answered while it was still in its seat"


def test_only_who_asks_something_wrong_fails():
    network, loop = Network(), PassLoop(CPU)
    busy = Event()

    def picky(module, stacked, common, ragged):
        if (stacked["time"] == 13).any():
            raise ValueError("thirteen")
        return forward(module, stacked, common, ragged)

    def run(seed):
        with loop.seat(4) as seat:
            return seat.ask(ForwardCall("n", network, picky), rows(seed))

    with ThreadPoolExecutor(4) as pool:
        holding = pool.submit(loop.run, busy.wait, 10)
        asked = {seed: pool.submit(run, seed) for seed in (3, 13, 5)}
        time.sleep(0.1)
        busy.set()
        holding.result(10)
        with pytest.raises(ValueError, match="thirteen"):
            asked[13].result(10)
        for seed in (3, 5):
            assert torch.equal(asked[seed].result(10)[0]["out"], alone(network, 4, [rows(seed)])[0][0]["out"])


def test_a_pass_that_finds_no_memory_is_made_again_at_the_same_size_once_some_was_freed():
    network, freed = Network(), []

    def scarce(module, stacked, common, ragged):
        if not freed:
            raise torch.OutOfMemoryError("full")
        return forward(module, stacked, common, ragged)

    def free():
        freed.append(True)
        return True

    with PassLoop(CPU, free).seat(4) as seat:
        found = seat.ask(ForwardCall("n", network, scarce), rows(1, 2))
    assert network.passes == [4]
    assert torch.equal(found[1]["out"], alone(network, 4, [rows(1, 2)])[0][1]["out"])


def test_memory_that_stays_short_is_a_problem_that_says_what_to_do():
    def full(module, stacked, common, ragged):
        raise torch.OutOfMemoryError("full")

    with PassLoop(CPU).seat(2) as seat, pytest.raises(GraphFlowError) as caught:
        seat.ask(ForwardCall("n", Network(), full), rows(1))
    (problem,) = caught.value.problems
    assert problem.code == "out_of_memory"
    assert "2 rows" in problem.message and "--dtype" in problem.hint


def test_other_work_of_the_device_has_its_turn_between_passes():
    network, loop = Network(), PassLoop(CPU)
    done = []

    def sample():
        with loop.seat(2) as seat:
            for step in range(200):
                seat.ask(ForwardCall("n", network, forward), rows(step, 2))
                if done:
                    return step
        return None

    with ThreadPoolExecutor(1) as pool:
        sampling = pool.submit(sample)
        loop.run(done.append, "encoded")
        assert sampling.result(10) is not None


def slow_forward(module, stacked, common, ragged):
    time.sleep(0.005)
    return forward(module, stacked, common, ragged)


def contest(*samplers):
    """Samplers (name, owner, questions) that begin one after the other; who was answered, in order."""
    loop, network, answered, begun = PassLoop(CPU), Network(), [], Event()

    def run(name, owner, count):
        with loop.seat(2, owner) as seat:
            for step in range(count):
                seat.left = count - step
                seat.ask(ForwardCall("n", network, slow_forward), rows(step, 2))
                answered.append(name)
                begun.set()

    with ThreadPoolExecutor(len(samplers)) as pool:
        running = []
        for sampler in samplers:
            begun.clear()
            running.append(pool.submit(run, *sampler))
            begun.wait(10)
        for each in running:
            each.result(20)
    return answered


def test_a_short_sampler_goes_between_the_steps_of_a_long_one():
    answered = contest(("long", "me", 60), ("short", "me", 5))
    first = answered.index("short")
    assert answered[first : first + 12].count("short") == 5, "it is answered at least every second time"


def test_a_short_sampler_that_comes_while_a_long_one_is_at_its_pass_has_the_next_one_whoever_waits_longer():
    loop, network, begun, goes_on, answered = PassLoop(CPU), Network(), Event(), Event(), []

    def held(module, stacked, common, ragged):
        begun.set()
        goes_on.wait(60)
        return forward(module, stacked, common, ragged)

    with loop.seat(1, "me") as first, loop.seat(1, "me") as second, loop.seat(1, "me") as short:
        first.left, second.left, short.left = 50, 50, 4
        asked = [first.ask_later(ForwardCall("n", network, held), rows(0))]
        assert begun.wait(60)
        for name, seat in (("second long one", second), ("short one", short)):
            asked.append(seat.ask_later(ForwardCall("n", network, forward), rows(0)))
            asked[-1].add_done_callback(lambda _, name=name: answered.append(name))
        goes_on.set()
        for each in asked:
            each.result(60)
    assert answered == ["short one", "second long one"]


def test_a_sampler_with_less_left_keeps_its_turn_while_it_makes_its_step():
    now = [10.0]
    loop = PassLoop(CPU, clock=lambda: now[0])
    waiting = loop._turns.rank("me", 5.0, 0.0, 0.1)
    with loop.seat(2, "me") as seat:
        seat.left = 4
        seat.note_answer(10.0, 0.1)
        assert loop._waiting.back_soon(loop._seats, waiting, 10.0) is None, "nobody knows yet how long its steps take"
        seat.note_question(10.01)
        seat.note_answer(10.11, 0.1)
        assert loop._waiting.back_soon(loop._seats, waiting, 10.11) == pytest.approx(10.13)
        assert loop._waiting.back_soon(loop._seats, waiting, 10.14) is None, "it is late"
        assert loop._waiting.back_soon(loop._seats, loop._turns.rank("me", 0.1, 0.0, 0.1), 10.12) is None, (
            "another has less left"
        )
        seat.note_question(10.16)
        seat.note_answer(10.26, 0.1)
        assert loop._waiting.back_soon(loop._seats, waiting, 10.26) is None, (
            "what it does between its questions takes half a pass"
        )


@pytest.mark.alone
def test_owners_share_the_device_evenly_however_much_each_wants():
    answered = contest(("a", "A", 60), ("b", "A", 60), ("c", "A", 60), ("other", "B", 40))
    begun = answered.index("other")
    share = answered[begun : begun + 60].count("other")
    assert 24 <= share <= 40, f"{share} of 60 passes are about a half"


def test_what_runs_on_the_device_may_ask_it_for_more():
    loop = PassLoop(CPU)
    assert loop.run(lambda: loop.run(lambda: 3) + 1) == 4


def test_the_size_alone_is_the_smallest_that_holds_small_rows():
    assert [size_of_passes(rows, (8, 8)) for rows in (1, 2, 3, 5, 9, 17, 40)] == [1, 2, 4, 8, 16, 16, 16]


def test_the_size_alone_wastes_no_large_rows():
    assert [size_of_passes(rows, (64, 64)) for rows in (1, 2, 3, 4, 6, 10)] == [1, 2, 1, 4, 2, 2]
    for rows_ in range(1, 40):
        size = size_of_passes(rows_, (64, 64))
        assert -(-rows_ // size) * size < rows_ * 1.15


def test_the_size_for_sharing_is_larger_where_latents_are_small_and_never_smaller_than_alone():
    assert size_of_passes(2, (8, 8), together=16) == 16
    assert size_of_passes(2, (32, 32), together=16) == 8
    assert size_of_passes(2, (64, 64), together=16) == 2
    assert size_of_passes(8, (128, 128), together=16) == 8
    assert size_of_passes(2, (4, 64, 64), together=16) == 2
    assert size_of_passes(2, (64, 64), together=16, kind="cuda") == 16
    for rows_, together in ((1, 3), (2, 2), (3, 5)):
        assert size_of_passes(rows_, (8, 8), together) in SIZES


def test_the_number_that_is_in_the_recipe_settles_the_size():
    for together in range(2, 20):
        assert size_of_passes(2, (8, 8), together) == size_of_passes(2, (8, 8), factor(together))


@pytest.mark.parametrize("mixes", [False, True])
def test_where_it_was_not_measured_rows_share_passes_only_if_their_bits_do_not_depend_on_it(mixes):
    network, loop = Network(), PassLoop(CPU, is_proven=False)

    def mixing(module, stacked, common, ragged):
        found = forward(module, stacked, common, ragged)["out"]
        return {"out": found + stacked["x"].mean() if mixes else found}

    call, busy, going = ForwardCall("n", network, mixing), Event(), Event()

    def hold():
        busy.set()
        going.wait(60)

    def run(seat, seed):
        return seat.ask(call, rows(seed, 2))

    with loop.seat(4) as one, loop.seat(4) as other, ThreadPoolExecutor(3) as pool:
        alone = [run(one, 1), run(other, 50)]
        for _ in range(2):  # the second time, it is known
            busy.clear(), going.clear()
            holding = pool.submit(loop.run, hold)
            busy.wait(60)
            asked = [pool.submit(run, one, 1), pool.submit(run, other, 50)]
            while not (one.waits and other.waits):
                time.sleep(0.001)
            going.set()
            found = [each.result(60) for each in asked]
            holding.result(60)
            for answers, wanted in zip(found, alone, strict=True):
                assert all(torch.equal(a["out"], b["out"]) for a, b in zip(answers, wanted, strict=True))
    assert loop.counts.shared == (1 if mixes else 2)
    assert [("beside" in seat.work.alone) for seat in (one, other)] == [mixes, mixes]


PROCESS = """
import threading, torch
from graphflow_nodes.devices.passes import PassLoop

begun, a = threading.Event(), torch.randn(1500, 1500)

def compute():
    begun.set()
    for _ in range(20):
        a @ a

loop = PassLoop(torch.device("cpu"))
threading.Thread(target=loop.run, args=(compute,), daemon=True).start()
begun.wait()
"""


def test_a_process_that_ends_while_its_device_computes_ends_well():
    ended = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


class Timed:
    """A loop whose clock goes on by a second in each pass and by `call` seconds in each call, and who had its turn."""

    def __init__(self, call):
        self.now, self.turns, self.call_takes = 0.0, [], call
        self.loop, self.network = PassLoop(CPU, clock=lambda: self.now), Network()

    def forward(self, *inputs):
        self.now += 1.0
        self.turns.append("pass")
        return forward(*inputs)

    def sampler(self, begins, ends):
        with self.loop.seat(4) as self.seat:
            for step in range(100):
                self.seat.ask(ForwardCall("n", self.network, self.forward), rows(step, 2))
                begins.set()
                if ends.is_set():
                    return

    def call(self):
        """It ends when the sampler waits for its next pass, so that both want the device."""
        while not self.seat.waits:
            time.sleep(0.0005)
        self.now += self.call_takes
        self.turns.append("call")


def test_a_run_that_begins_makes_its_calls_and_its_first_pass_within_one_pass_of_another():
    timed, begins, ends = Timed(call=0.1), Event(), Event()
    with ThreadPoolExecutor(1) as pool:
        sampling = pool.submit(timed.sampler, begins, ends)
        begins.wait(60)
        with timed.loop.seat(4) as mine:
            for _ in range(3):
                timed.loop.run(timed.call)
                before = len(timed.turns)
            timed.network.passes.clear()
            mine.ask(ForwardCall("n", timed.network, timed.forward), rows(7, 2))
        ends.set()
        sampling.result(60)
    assert timed.turns[before - 3 : before] == ["call"] * 3, "one after the other, though a pass could be made"
    assert timed.network.passes[0] == 4 and timed.loop.counts.shared >= 1, "and its first pass is the next one"


def test_many_calls_hold_a_sampler_up_for_half_a_pass_at_most_and_then_take_turns_with_it():
    timed, begins, ends, holding = Timed(call=0.3), Event(), Event(), Event()
    with ThreadPoolExecutor(8) as pool:
        sampling = pool.submit(timed.sampler, begins, ends)
        begins.wait(60)
        held = pool.submit(timed.loop.run, holding.wait, 60)
        calls = [pool.submit(timed.loop.run, timed.call) for _ in range(6)]
        while len(timed.loop._calls) < 6:
            time.sleep(0.0005)
        timed.turns.clear()
        holding.set()
        for each in (held, *calls):
            each.result(60)
        ends.set()
        sampling.result(60)
    found = "".join(turn[0] for turn in timed.turns)
    assert "ccc" not in found and found.count("c") == 6, "two calls are made in half a pass"
