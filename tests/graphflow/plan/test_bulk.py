"""Large graphs: the cycle collector is left as it was found."""

import gc

import pytest

from graphflow.plan import bulk
from graphflow.plan.bulk import in_bulk, kept


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(bulk, "MANY", 1_000)
    assert not gc.get_freeze_count()
    yield
    gc.unfreeze()
    assert gc.isenabled()


def many():
    return [[] for _ in range(5_000)]


def test_what_is_made_in_bulk_is_passed_over_until_the_end_of_the_block():
    with kept():
        with in_bulk():
            assert not gc.isenabled()
            made = many()
        assert gc.isenabled() and gc.get_freeze_count() >= len(made)
    assert not gc.get_freeze_count()


def test_a_block_inside_a_block_ends_with_the_outer_one():
    with kept():
        with kept(), in_bulk():
            made = many()
        assert gc.get_freeze_count() >= len(made)
    assert not gc.get_freeze_count()


def test_a_small_plan_changes_nothing():
    with kept(), in_bulk():
        assert [[] for _ in range(10)]
    assert not gc.get_freeze_count()


def test_what_the_program_froze_itself_stays_frozen():
    gc.freeze()
    before = gc.get_freeze_count()
    with kept():
        with in_bulk():
            made = many()
        assert gc.get_freeze_count() <= before, "some of it may have died since, and nothing came"
    assert made and 0 < gc.get_freeze_count() <= before


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with kept(), in_bulk():
            assert many()
        assert not gc.isenabled() and not gc.get_freeze_count()
    finally:
        gc.enable()


def test_an_error_leaves_the_collector_as_it_was():
    with pytest.raises(ValueError), kept(), in_bulk():
        raise ValueError(many())
    assert gc.isenabled() and not gc.get_freeze_count()
