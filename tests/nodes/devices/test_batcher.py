from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from graphflow_nodes.devices.batcher import Batcher


@pytest.fixture
def thread():
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Model:
    """Doubles what it is given, and notes how many rows each pass had."""

    def __init__(self, fails=lambda rows: False):
        self.passes, self.fails = [], fails

    def __call__(self, x):
        self.passes.append(len(x))
        if self.fails(x):
            raise ValueError("a pass failed")
        return x * 2


def ask_all(batcher, model, inputs, rounds=1):
    """Each input is asked by a thread of its own; all are seated before the first asks."""
    barrier = Barrier(len(inputs))

    def ask(x):
        with batcher.seat(model) as answer:
            barrier.wait(10)
            for _ in range(rounds):
                found = answer(x)
            return found

    with ThreadPoolExecutor(len(inputs)) as pool:
        return [pool.submit(ask, x) for x in inputs]


def rows(value, count=2, width=3):
    return torch.full((count, width), float(value))


def test_all_who_wait_are_answered_by_one_pass_and_each_gets_its_own_rows(thread):
    model = Model()
    answers = ask_all(Batcher(thread, most=100), model, [rows(i) for i in range(5)])
    assert model.passes == [10]
    for i, answer in enumerate(answers):
        assert torch.equal(answer.result(), rows(2 * i))


def test_who_is_alone_is_answered_by_the_very_call_with_its_own_tensors(thread):
    seen = []
    with Batcher(thread, most=100).seat(lambda x: seen.append(x) or x) as ask:
        x = rows(1)
        assert ask(x) is x
    assert seen[0] is x


def test_a_pass_has_no_more_rows_than_fit_but_a_question_is_never_divided(thread):
    model = Model()
    for answer in ask_all(Batcher(thread, most=5), model, [rows(i) for i in range(5)]):
        answer.result()
    assert sorted(model.passes) == [2, 4, 4]
    model = Model()
    with Batcher(thread, most=1).seat(model) as ask:
        ask(rows(1, 4))
    assert model.passes == [4]


def test_questions_of_other_shapes_are_answered_in_passes_of_their_own(thread):
    model = Model()
    wide, narrow = [rows(i, width=4) for i in range(3)], [rows(i, width=2) for i in range(2)]
    answers = ask_all(Batcher(thread, most=100), model, wide + narrow)
    assert [tuple(answer.result().shape) for answer in answers] == [(2, 4)] * 3 + [(2, 2)] * 2
    assert sorted(model.passes) == [4, 6]


def test_an_error_hits_only_who_caused_it(thread):
    model = Model(fails=lambda x: bool((x == 3).any()))
    answers = ask_all(Batcher(thread, most=100), model, [rows(i) for i in range(6)])
    for i, answer in enumerate(answers):
        if i == 3:
            with pytest.raises(ValueError):
                answer.result(10)
        else:
            assert torch.equal(answer.result(10), rows(2 * i))


def test_where_memory_is_short_smaller_passes_are_made_from_then_on(thread):
    def short(x):
        if len(x) > 4:
            raise torch.OutOfMemoryError("out of memory")

    model = Model(fails=short)
    for answer in ask_all(Batcher(thread, most=100), model, [rows(i) for i in range(8)], rounds=5):
        assert answer.exception(10) is None
    assert model.passes.index(16) == 0 and model.passes.count(16) == 1
    assert max(model.passes[5:]) <= 4


def test_nobody_waits_for_one_that_has_left_early(thread):
    batcher, model, barrier = Batcher(thread, most=100), Model(), Barrier(3)

    def leaves():
        with pytest.raises(RuntimeError), batcher.seat(model) as ask:
            barrier.wait(10)
            ask(rows(9))
            raise RuntimeError("this one stops here")

    def stays():
        with batcher.seat(model) as ask:
            barrier.wait(10)
            return [ask(rows(1)) for _ in range(20)]

    with ThreadPoolExecutor(3) as pool:
        staying = [pool.submit(stays) for _ in range(2)]
        pool.submit(leaves).result(10)
        for one in staying:
            assert len(one.result(10)) == 20


@pytest.mark.parametrize(
    ("seconds", "taken"), [(lambda rows: rows**2, [2, 2, 2, 2]), (lambda rows: 1, [8]), (lambda rows: rows, [8])]
)
def test_smaller_passes_are_taken_where_they_are_faster_for_each_row_and_only_there(thread, seconds, taken):
    now = 0.0

    def model(x):
        nonlocal now
        now += seconds(len(x))
        passes.append(len(x))
        return x

    passes: list[int] = []
    for answer in ask_all(Batcher(thread, 100, clock=lambda: now), model, [rows(i) for i in range(4)], rounds=8):
        answer.result(10)
    assert passes[-len(taken) :] == taken
