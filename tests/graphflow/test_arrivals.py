"""Runs that begin together are expected until they ask for their first pass, or end without one."""

from graphflow.arrivals import Arrivals


def test_a_run_is_expected_by_others_of_its_kind_until_it_is_here():
    arrivals = Arrivals()
    first, second, other = arrivals.expect("kind"), arrivals.expect("kind"), arrivals.expect("other")
    assert first.others_come and second.others_come and not other.others_come
    second.is_here()
    assert not first.others_come
    assert second.others_come, "the first one has not come"
    first.is_here()
    assert not second.others_come


def test_whoever_listens_hears_of_each_that_comes_once():
    arrivals, heard = Arrivals(), []
    first, second, third = (arrivals.expect("kind") for _ in range(3))
    first.listen(lambda: heard.append(first.others_come))
    first.is_here()
    second.is_here()
    second.is_here()
    third.is_here()
    assert heard == [True, True, False]


def test_whoever_listens_hears_of_those_who_begin_when_all_others_have_come_or_were_waited_for_in_vain():
    arrivals, heard = Arrivals(), []
    first, late = arrivals.expect("kind"), arrivals.expect("kind")
    first.listen(lambda: heard.append(first.others_come))
    late.go_without()
    later = arrivals.expect("kind")
    assert first.others_come and heard == []
    later.is_here()
    assert heard == [False], "it has ended without a pass, and nobody waits for it any longer"
    arrivals.expect("kind").is_here()
    assert heard == [False, False]


def test_those_who_were_waited_for_in_vain_are_not_expected_and_those_who_begin_later_are():
    arrivals = Arrivals()
    first, late = arrivals.expect("kind"), arrivals.expect("kind")
    first.go_without()
    assert not first.others_come
    late.is_here()
    later = arrivals.expect("kind")
    assert first.others_come
    later.is_here()
    assert not first.others_come


def test_a_sampler_of_a_run_is_expected_in_place_of_the_run_and_nothing_is_missed_between():
    arrivals, seen = Arrivals(), []
    beside, run = arrivals.expect("kind"), arrivals.expect("kind")
    beside.listen(lambda: seen.append(beside.others_come))
    sampler = run.sampler()
    assert seen == [True]
    assert run.sampler().kind == sampler.kind == "kind"
    beside.is_here()
    sampler.is_here()
    assert beside.others_come, "a run may have several samplers"
