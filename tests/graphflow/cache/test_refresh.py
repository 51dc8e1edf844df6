"""`--refresh` replaces: whatever the cache held for the same work, and for what stands on it, is held no more."""

import threading

import pytest

import graphflow as gf
from graphflow.cache.index import Index


@pytest.fixture
def world():
    """What the nodes read without saying so; the user who knows of it asks for a refresh."""
    return {"k": 1}


@pytest.fixture
def types(world, calls):
    @gf.node("Five", version="1")
    def five(v: int = 0) -> int:
        return 5

    @gf.node("Read", version="1")
    def read(x: int, n: int = 0) -> gf.AnyType:
        calls["Read"] += 1
        return [world["k"]] * world.get("size", 2000)

    @gf.node("First", version="1")
    def first(x: gf.AnyType, plus: int = 0) -> int:
        calls["First"] += 1
        return x[0] + plus

    @gf.node("Show", version="1", output=True)
    def show(v: gf.AnyType, seed: int = 0) -> gf.Ui:
        return gf.Ui({"v": [v]})

    return [five, read, first, show]


@pytest.fixture(params=["memory", "disk", "both"])
def run(request, types, graph, tmp_path):
    """`run(v, seed)`: what Show shows of a First of a Read of a Five, which gives 5 for every v."""
    lasting = gf.Cache()

    def run(v, seed=0, plus=0, **options):
        folder = gf.Cache(tmp_path, memory=1 if request.param == "disk" else 1 << 20)
        cache = lasting if request.param == "memory" else folder
        with gf.Engine(gf.Registry(types), cache=cache) as engine:
            return engine.run(
                graph(
                    a=("Five", {"v": v}),
                    b=("Read", {"x": "@a"}),
                    c=("First", {"x": "@b", "plus": plus}),
                    o=("Show", {"v": "@c", "seed": seed}),
                ),
                **options,
            )["o"].ui["v"][0]

    return run


def test_refresh_replaces_the_result_for_other_recipes_of_the_same_work_and_for_new_ones(run, world):
    assert (run(1), run(2)) == (1, 1)
    world["k"] = 2
    assert run(1) == 1, "nobody can know"
    assert run(1, refresh=True) == 2
    assert (run(1), run(2), run(3)) == (2, 2, 2)


def test_refresh_forgets_what_other_workflows_made_of_the_old_result(run, world, calls):
    assert (run(1, seed=0), run(1, seed=7), run(1, plus=10)) == (1, 1, 11)
    world["k"] = 2
    assert run(1, seed=0, refresh=True) == 2
    calls.clear()
    assert (run(1, seed=0), run(1, seed=7), run(1, plus=10)) == (2, 2, 12)
    assert calls == {"First": 1}, "of what was refreshed nothing is computed again"


def test_a_refresh_that_finds_the_same_forgets_nothing(run, calls):
    assert (run(1, plus=3), run(2, plus=4)) == (4, 5)
    assert run(1, plus=3, refresh=True) == 4
    calls.clear()
    assert (run(1, plus=3), run(2, plus=4)) == (4, 5) and not calls


def test_a_long_lived_engine_forgets_what_it_had_read_from_the_folder(types, graph, tmp_path, world):
    def workflow(v, seed=0):
        return graph(
            a=("Five", {"v": v}),
            b=("Read", {"x": "@a"}),
            c=("First", {"x": "@b"}),
            o=("Show", {"v": "@c", "seed": seed}),
        )

    with gf.Engine(gf.Registry(types), cache=gf.Cache(tmp_path)) as engine:
        for v in (1, 2):
            engine.run(workflow(v))
    with gf.Engine(gf.Registry(types), cache=gf.Cache(tmp_path)) as engine:
        for v in (1, 2):
            engine.run(workflow(v))
        engine.run(workflow(2), targets=["b", "c"])
        world["k"] = 2
        engine.run(workflow(1), refresh=True)
        assert engine.run(workflow(2))["o"].ui["v"] == [2] and engine.run(workflow(2, seed=1))["o"].ui["v"] == [2]


def test_the_blobs_of_replaced_results_are_removed(types, graph, tmp_path, world):
    world["size"] = 20_000
    for refresh in (False, True):
        with gf.Engine(gf.Registry(types), cache=gf.Cache(tmp_path)) as engine:
            engine.run(graph(b=("Read", {"x": 1}), o=("Show", {"v": "@b"})), refresh=refresh)
            world["k"] += 1
    assert len(list(tmp_path.glob("v*/blobs/*/*"))) == 1


def test_what_was_forgotten_does_not_come_back_with_a_lost_index(types, graph, tmp_path, world):
    world["size"] = 20_000

    @gf.node("Grow", version="1")
    def grow(x: gf.AnyType, by: int = 0) -> gf.AnyType:
        return [item + by for item in x]

    def run(by, **options):
        with gf.Engine(gf.Registry([*types, grow]), cache=gf.Cache(tmp_path)) as engine:
            found = engine.run(
                graph(
                    b=("Read", {"x": 1}),
                    g=("Grow", {"x": "@b", "by": by}),
                    f=("First", {"x": "@g"}),
                    o=("Show", {"v": "@f"}),
                ),
                **options,
            )
            return found["o"].ui["v"][0]

    assert (run(0), run(5)) == (1, 6)
    world["k"] = 2
    assert run(0, refresh=True) == 2
    for path in tmp_path.glob("v*/index.sqlite*"):
        path.unlink()
    assert (run(0), run(5)) == (2, 7)


def test_what_is_known_by_content_is_noted_beside_the_run_without_a_file_each(
    types, graph, tmp_path, world, monkeypatch
):
    world["size"] = 20_000
    writers = []
    put = Index.put
    monkeypatch.setattr(Index, "put", lambda *given: (writers.append(threading.current_thread()), put(*given))[1])

    def run(v):
        nodes = {f"b{x}": ("Read", {"x": "@a", "n": x}) for x in range(30)}
        shows = {f"o{x}": ("Show", {"v": f"@b{x}"}) for x in range(30)}
        with gf.Engine(gf.Registry(types), cache=gf.Cache(tmp_path)) as engine:
            return engine.run(graph(a=("Five", {"v": v}), **nodes, **shows))

    run(1)
    files = sorted(tmp_path.rglob("records/*/*"))
    assert set(run(2).timings) == {"a"} and not run(2).timings
    assert sorted(tmp_path.rglob("records/*/*")) == files
    assert threading.main_thread() not in writers
