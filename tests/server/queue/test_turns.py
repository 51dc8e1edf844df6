"""Who is next, where several prompts are at work."""

import random

from graphflow_server.queue.accounts import ClientAccounts
from graphflow_server.queue.turns import PLACES_AHEAD, Candidate, Turns


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def waiting(*clients, placed=(), alone=()):
    return [
        Candidate(at, f"{client}{at}", client, is_placed=at in placed, alone=int(at in alone))
        for at, client in enumerate(clients)
    ]


def test_one_at_a_time_they_run_in_their_order_whoever_sent_them():
    turns = Turns(1)
    assert turns.choose(waiting("a", "a", "b")).id == "a0"
    turns.began("a0", "a")
    assert turns.choose(waiting("b")) is None
    turns.ended("a0")
    assert turns.choose(waiting("a", "b")).id == "a0", "a client that has had its turn keeps its place"


def test_who_sends_many_prompts_keeps_no_other_client_waiting():
    clock = Clock()
    turns = Turns(2, clock=clock)
    turns.began("a0", "a")
    clock.now = 10.0
    assert turns.choose(waiting("a", "a", "a", "b")).id == "b3"


def test_seconds_are_shared_evenly_between_clients_that_always_have_work():
    clock, chance = Clock(), random.Random(3)
    turns = Turns(2, clock=clock)
    used = {"long": 0.0, "short": 0.0, "mixed": 0.0}
    length = {"long": lambda: 50.0, "short": lambda: 1.0, "mixed": lambda: chance.choice([1.0, 20.0])}
    at_work = {}
    for number in range(3000):
        while len(at_work) < 2:
            chosen = turns.choose(waiting(*used))
            name = f"{chosen.client}-{number}-{len(at_work)}"
            turns.began(name, chosen.client)
            at_work[name] = (chosen.client, length[chosen.client]())
        name, (client, left) = min(at_work.items(), key=lambda item: item[1][1])
        clock.now += 2 * left  # two at a time have half of the device each
        for other, (who, seconds) in at_work.items():
            used[who] += left
            at_work[other] = (who, seconds - left)
        del at_work[name]
        turns.ended(name)
    total = sum(used.values())
    for client, seconds in used.items():
        assert abs(seconds / total - 1 / 3) < 0.03, (client, used)


def test_who_pauses_saves_no_turns_up():
    clock = Clock()
    turns = Turns(3, clock=clock)
    turns.began("b", "b")
    clock.now = 1000.0
    turns.ended("b")
    turns.began("a", "a")
    clock.now = 1010.0
    turns.began("new", "new")
    clock.now = 1012.0
    assert turns.choose(waiting("new", "a")).client == "new", "a newcomer begins where those at work are"
    clock.now = 1100.0
    turns.ended("a")
    turns.ended("new")
    assert turns.choose(waiting("b", "a", "new")).client == "b", "what it used while nobody waited does not count"


def test_a_place_that_somebody_chose_is_kept():
    turns = Turns(2)
    turns.began("a", "a")
    assert turns.choose(waiting("a", "b", placed={0})).id == "a0"
    assert turns.choose(waiting("a", "a", "b", placed={1})).id == "a0", "nobody overtakes it from behind"


def test_a_client_that_sees_one_running_prompt_has_one():
    turns = Turns(4, one_a_client=True)
    turns.began("a", "a")
    assert turns.choose(waiting("a", "a")) is None
    assert turns.choose(waiting("a", "b")).id == "b1"


def test_a_short_prompt_of_a_client_runs_beside_its_long_one_of_the_same_model_and_no_other_does():
    def candidate(number, length, model="sd15", client="a"):
        return Candidate(number, str(number), client, model=model, length=length)

    turns = Turns(4, one_a_client=True)
    turns.began("long", "a", model="sd15", length=50.0)
    unfit = [candidate(0, 50.0), candidate(1, 13.0), candidate(2, 4.0, "flux"), candidate(3, None)]
    assert turns.choose(unfit) is None
    assert turns.choose([*unfit, candidate(4, 4.0)]).id == "4"
    turns.began("4", "a", model="sd15", length=4.0)
    assert turns.choose([*unfit, candidate(5, 4.0)]) is None, "it is not short beside the other short one"
    assert turns.choose([*unfit, candidate(5, 50.0, client="b")]).id == "5"
    turns.ended("4")
    far = [candidate(at, 50.0) for at in range(PLACES_AHEAD + 1)]
    assert turns.choose([*far, candidate(99, 4.0)]) is None, "it is too far behind"


def test_a_suspect_runs_when_nothing_else_does_and_nothing_is_begun_beside_it():
    turns = Turns(4)
    turns.began("a", "a")
    assert turns.choose(waiting("b", "c", alone={0})) is None
    turns.ended("a")
    assert turns.choose(waiting("b", "c", alone={0})).id == "b0"
    turns.began("b0", "b", alone=True)
    assert not turns.has_room and turns.choose(waiting("c")) is None
    turns.ended("b0")
    assert turns.has_room


def test_accounts_of_many_clients_are_forgotten():
    clock = Clock()
    turns = Turns(2, clock=clock)
    for at in range(5000):
        turns.began(str(at), f"client {at}")
        clock.now += 1.0
        turns.ended(str(at))
    assert len(turns.accounts.seconds) <= 1001


def test_what_shares_passes_with_the_work_at_hand_may_overtake_for_a_while():
    turns = Turns(2, prefers_alike=True)
    turns.began("small", "a", likeness="small")
    large, small = Candidate(1, "large", "a", likeness="large"), Candidate(2, "small", "a", likeness="small")
    others = [Candidate(0, "of another", "b", likeness="small")]
    assert [turns.choose([large, small]).id for _ in range(PLACES_AHEAD + 1)] == ["small"] * PLACES_AHEAD + ["large"]
    assert turns.choose([*others, large]).id == "of another"
    far = [Candidate(at, f"large {at}", "a", likeness="large") for at in range(PLACES_AHEAD + 1)]
    assert turns.choose([*far, small]).id == "large 0", "it is too far behind"
    moved = Candidate(2, "moved", "a", is_placed=True, likeness="small")
    assert turns.choose([far[0], moved]).id == "large 0"


def test_of_one_clients_prompts_those_of_the_model_at_work_go_first_but_never_before_another_client():
    turns = Turns(1, prefers_model=True)
    turns.began("first", "a", model="sdxl")
    turns.ended("first")
    other = [Candidate(at, f"flux {at}", "a", model="flux") for at in range(3)]
    alike = Candidate(9, "sdxl", "a", model="sdxl")
    assert turns.choose([*other, alike]).id == "sdxl"
    assert turns.choose([Candidate(0, "b", "b", model="flux"), alike]).id == "b", "another client's turn"
    far = [Candidate(at, f"flux {at}", "a", model="flux") for at in range(PLACES_AHEAD + 1)]
    assert turns.choose([*far, alike]).id == "flux 0", "it is too far behind"


def test_a_higher_priority_goes_first_and_what_a_worker_cannot_run_is_left_for_others():
    turns = Turns(2)
    high = [Candidate(5, "high", "b", priority=1), Candidate(0, "low", "a")]
    assert turns.choose(high).id == "high"
    assert turns.choose(high, unfit=frozenset({"high"})).id == "low"


def test_workers_share_the_accounts_of_clients():
    clock = Clock()
    accounts = ClientAccounts(clock)
    one, two = Turns(1, prefers_model=True, accounts=accounts), Turns(1, prefers_model=True, accounts=accounts)
    one.began("a0", "a")
    clock.now = 10.0
    assert two.choose(waiting("a", "b")).id == "b1", "a has had ten seconds on another worker"


def test_what_runs_alone_on_all_workers_waits_for_all_and_nothing_begins_beside_it():
    accounts = ClientAccounts(Clock())
    one, two = Turns(1, prefers_model=True, accounts=accounts), Turns(1, prefers_model=True, accounts=accounts)
    one.began("x", "a")
    suspect = Candidate(0, "suspect", "a", alone=2)
    assert two.choose([suspect, *waiting("b")]) is None
    one.ended("x")
    assert two.choose([suspect]).id == "suspect"
    two.began("suspect", "a", alone=2)
    assert not one.has_room
