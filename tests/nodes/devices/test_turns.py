"""Whose work a device does next."""

from graphflow_nodes.devices.turns import LONGEST_WAIT, DeviceTurns


def serve(turns, wanting, seconds=1.0, rounds=300):
    """Work of equal length for whoever is next; how often each was."""
    served = dict.fromkeys(wanting, 0)
    for _ in range(rounds):
        owner = min(wanting, key=lambda each: turns.rank(each, 0.0, 0.0, 0.0))
        turns.charge([owner], seconds, wanting)
        served[owner] += 1
    return served


def test_owners_that_always_have_work_get_equal_time():
    turns = DeviceTurns()
    assert serve(turns, ["a", "b", "c"]) == {"a": 100, "b": 100, "c": 100}


def test_who_was_alone_before_is_not_punished_and_who_comes_back_has_saved_nothing_up():
    turns = DeviceTurns()
    serve(turns, ["a"], rounds=1000)
    assert abs(serve(turns, ["a", "b"], rounds=100)["b"] - 50) <= 1


def test_a_pass_that_several_share_is_paid_by_them_in_equal_parts():
    turns = DeviceTurns()
    turns.charge(["a", "b"], 2.0, ["a", "b", "c"])
    assert turns.account("a") == turns.account("b") == 1.0 and turns.account("c") == 0.0


def test_of_one_owner_the_one_with_least_left_is_next_unless_another_has_waited_long():
    turns = DeviceTurns()
    short, long = turns.rank("a", 0.4, 0.0, 0.1), turns.rank("a", 5.0, 0.3, 0.1)
    assert short < long
    assert turns.rank("a", 5.0, LONGEST_WAIT + 0.1, 0.1) < short
    assert turns.rank("a", 5.0, LONGEST_WAIT + 0.1, 1.0) > short, "slow passes: it has waited for three of them"


def test_accounts_of_many_owners_are_forgotten():
    turns = DeviceTurns()
    for at in range(3000):
        turns.charge([at], 1.0, [at])
    assert len(turns._seconds) <= 1001
