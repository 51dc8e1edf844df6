"""Seconds of earlier runs, and what a next one is expected to take."""

import pytest
from graphflow_server.queue import timings
from graphflow_server.queue.store import QueueStore


@pytest.fixture
def store(tmp_path):
    store = QueueStore(tmp_path / "queue.sqlite")
    yield store
    store.close()


def note(store, setting, seconds, calls=1):
    stats = {"seconds": 2 * seconds, "nodes": {"KSampler": {"calls": calls, "seconds": seconds}}}
    store.write(lambda tx: timings.record(tx, setting, "program", stats)).result()


def expected(store, setting, *names):
    return store.read(lambda db: timings.expected(db, setting, names)).result()


def test_the_median_of_the_same_setting_is_expected_and_nothing_where_none_ran(store):
    for seconds in (1.0, 9.0, 2.0):
        note(store, "small", seconds)
    note(store, "large", 50.0, calls=2)
    assert expected(store, "small", "KSampler", "VAEDecode", "program") == {"KSampler": 2.0, "program": 4.0}
    assert expected(store, "large", "KSampler") == {"KSampler": 25.0}
    assert expected(store, "other", "KSampler") == {}


def test_only_the_newest_runs_count(store):
    for _ in range(20):
        note(store, "small", 100.0)
    for _ in range(timings.KEPT):
        note(store, "small", 1.0)
    assert expected(store, "small", "KSampler") == {"KSampler": 1.0}
    assert store.read(lambda db: db.execute("SELECT count(*) FROM timings").fetchone()[0]).result() == 2 * timings.KEPT
