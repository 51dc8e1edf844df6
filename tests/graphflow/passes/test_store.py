"""What passes cost and what was decided, in a file."""

import math

import pytest

from graphflow.passes import costs, store
from graphflow.passes.costs import PassCost
from graphflow.passes.store import PassStore


def test_costs_are_kept_in_the_file_for_a_day_and_only_the_newest_measurements_count(tmp_path):
    now = [1000.0]
    kept = PassStore(tmp_path / "folder" / "passes.sqlite", lambda: now[0])
    kept.note("like", {4: PassCost(calculated=0.7), 2: PassCost(calculated=0.8)})
    now[0] += 1
    kept.note("like", {4: PassCost((0.5, 0.6))})
    kept.note("like", {8: PassCost((math.inf,))})
    kept.close()
    again = PassStore(tmp_path / "folder" / "passes.sqlite", lambda: now[0])
    assert again.costs("like") == {
        2: PassCost((), 0.8, 1000.0),
        4: PassCost((0.5, 0.6), 0.7, 1001.0),
        8: PassCost((math.inf,), None, 1001.0),
    }
    assert again.costs("other") == {}
    again.note("like", {4: PassCost(tuple(float(at) for at in range(costs.KEPT - 1)), 0.65)})
    assert again.costs("like")[4] == PassCost((0.6, *map(float, range(costs.KEPT - 1))), 0.65, 1001.0)
    now[0] += costs.LONG
    assert again.costs("like") == {}, "it is measured again"
    again.note("like", {4: PassCost((0.5,))})
    assert again.costs("like")[4].ratios == (0.5,), "what was measured before counts no more"
    again.close()


def test_the_same_work_has_what_was_decided_for_it_and_the_oldest_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST", 3)
    now = [0.0]
    kept = PassStore(tmp_path / "passes.sqlite", lambda: now[0])
    for number in range(6):
        now[0] += 1
        kept.choose(f"work {number}", number)
    kept.close()
    again = PassStore(tmp_path / "passes.sqlite")
    assert again.choice("work 5") == 5
    assert again.choice("work 0") is None
    again.close()


@pytest.mark.parametrize("broken", ["a folder", "not a database", "no folder"])
def test_no_trouble_with_the_file_fails_a_run(tmp_path, broken):
    place = tmp_path / "passes.sqlite"
    if broken == "a folder":
        place.mkdir()
    elif broken == "not a database":
        place.write_bytes(b"this is not a database" * 100)
    else:
        (tmp_path / "file").write_text("")
        place = tmp_path / "file" / "passes.sqlite"
    kept = PassStore(place)
    kept.note("like", {2: PassCost((1.0,))})
    kept.choose("work", 4)
    assert kept.costs("like") == {}
    assert kept.choice("work") is None
    kept.close()


def test_without_a_folder_it_lasts_as_long_as_the_process():
    kept = PassStore(None)
    kept.note("like", {2: PassCost((1.5,))})
    kept.close()
    assert kept.costs("like")[2].ratios == (1.5,)
