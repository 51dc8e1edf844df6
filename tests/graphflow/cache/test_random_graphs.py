"""For any graph and any edits: with a cache the outputs are those of without, and nothing known is computed again."""

import itertools
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as gf
from graphflow import AnyType, Context, Each, Every, Expansion, Link, Ui, node
from graphflow.check.validate import validate
from graphflow.files.digests import Digests
from graphflow.plan.fingerprint import fingerprints

COUNTED = Counter()
"""Calls by what the call says of itself; emptied by every example."""


@node("Number", version="1")
def number(value: int = 0) -> int:
    COUNTED["Number", value] += 1
    return value


@node("Add", version="1")
def add(a: int = 0, b: int = 0) -> int:
    COUNTED["Add", a, b] += 1
    return a + b


@node("Halve", version="1")
def halve(a: int = 0) -> int:
    """Different inputs give one result: early cutoff."""
    COUNTED["Halve", a] += 1
    return a // 2


@node("Numbers", version="1")
def numbers(count: int = 0) -> Each[int]:
    COUNTED["Numbers", count] += 1
    return list(range(count % 4))


@node("Total", version="1")
def total(values: Every[int]) -> int:
    COUNTED["Total", *values] += 1
    return sum(values)


@node("Twice", version="1")
def twice(a: int = 0, b: int = 0) -> Expansion[int]:
    """a + b + b, by two nodes in its place."""
    COUNTED["Twice", a, b] += 1
    return Expansion(
        {
            "x": {"class_type": "Add", "inputs": {"a": a, "b": b}},
            "y": {"class_type": "Add", "inputs": {"a": ["x", 0], "b": b}},
        },
        (Link("y", 0),),
    )


@node("Bad", version="1")
def writes(a: int = 0) -> AnyType:
    """A list that `Spoil` writes into."""
    COUNTED["Bad", a] += 1
    return [a]


@node("Spoil", version="1")
def spoil(value: AnyType, b: int = 0) -> int:
    value.append(b)
    COUNTED["Spoil", len(value), b] += 1
    return sum(value)


@node("Show", version="1", output=True)
def show(value: AnyType) -> Ui:
    COUNTED["Show", repr(value)] += 1
    return Ui({"value": [value]})


def _file(settings, name):
    return settings.input_dir / f"{name % FILES}.txt"


@node("Read", version="1", outside=lambda settings, name: settings.digests.of(_file(settings, name)))
def read(settings: gf.Settings, name: int = 0) -> int:
    return int(_file(settings, name).read_text())


def _written(settings, ui):
    try:
        return " ".join(settings.digests.of(Path(path)) for path in (ui or {}).get("paths", ()))
    except OSError:
        return None


@node("Save", version="1", output=True, effect=_written)
def save(context: Context, value: AnyType) -> Ui:
    """A file with the first number that is free, as a file that was deleted leaves its number to another."""
    for index in itertools.count():
        path = context.settings.output_dir / f"{index}.txt"
        try:
            with path.open("x") as file:
                file.write(repr(value))
        except FileExistsError:
            continue
        return Ui({"paths": [str(path)]})


FILES = 3
TYPES = [number, add, halve, numbers, total, twice, writes, spoil, show, read, save]
PLAIN = [
    ("Number", "value"),
    ("Add", "a", "b"),
    ("Halve", "a"),
    ("Numbers", "count"),
    ("Twice", "a", "b"),
    ("Read", "name"),
    ("Read", "name"),
]


@st.composite
def graphs(draw):
    """A workflow of up to ten nodes in document order, each linked to earlier ones, all shown and some saved."""
    document = {}
    ints, lists = [], []
    for index in range(draw(st.integers(1, 9))):
        key = str(index)

        def value():
            if ints and draw(st.booleans()):
                return [draw(st.sampled_from(ints)), 0]
            return draw(st.integers(0, 3))

        kinds = ["plain"] * 4 + (["total", "bad"] if ints else []) + (["spoil"] * 2 if lists else [])
        kind = draw(st.sampled_from(kinds))
        if kind == "total":
            document[key] = {"class_type": "Total", "inputs": {"values": [draw(st.sampled_from(ints)), 0]}}
        elif kind == "bad":
            document[key] = {"class_type": "Bad", "inputs": {"a": value()}}
        elif kind == "spoil":
            document[key] = {
                "class_type": "Spoil",
                "inputs": {"value": [draw(st.sampled_from(lists)), 0], "b": value()},
            }
        else:
            name, *inputs = draw(st.sampled_from(PLAIN))
            document[key] = {"class_type": name, "inputs": {item: value() for item in inputs}}
        (lists if kind == "bad" else ints).append(key)
    for key in list(document):
        document[f"show{key}"] = {"class_type": "Show", "inputs": {"value": [key, 0]}}
        if draw(st.integers(0, 2)) == 0:
            document[f"save{key}"] = {"class_type": "Save", "inputs": {"value": [key, 0]}}
    return document


class Step(NamedTuple):
    document: dict
    numbers: tuple[int, ...]
    """What the files hold that are read."""
    harmed: set[int]
    """Which of the files that were written are deleted (the even ones) or overwritten before."""


class Place:
    """Folders of a history."""

    def __init__(self, folder, name):
        self.settings = gf.Settings(input_dir=Path(folder) / "input", output_dir=Path(folder) / name)
        self.settings.input_dir.mkdir(exist_ok=True)
        self.settings.output_dir.mkdir()

    def prepare(self, step):
        for index, number in enumerate(step.numbers):
            (self.settings.input_dir / f"{index}.txt").write_text(str(number))
        for index in step.harmed:
            path = self.settings.output_dir / f"{index}.txt"
            if path.exists():
                path.write_text("spoiled") if index % 2 else path.unlink()


@st.composite
def histories(draw):
    """A workflow and some edits of it, each a workflow of its own; now and then back to an earlier one. Between the
    runs the files that are read change, and files that were written are deleted or overwritten."""
    found = [draw(graphs())]
    numbers = st.tuples(*[st.integers(0, 2)] * FILES)
    steps = [Step(found[0], draw(numbers), set())]
    for _ in range(draw(st.integers(1, 4))):
        document = {key: {**item, "inputs": dict(item["inputs"])} for key, item in draw(st.sampled_from(found)).items()}
        for item in document.values():
            for name, value in item["inputs"].items():
                if isinstance(value, int) and draw(st.integers(0, 5)) == 0:
                    item["inputs"][name] = draw(st.integers(0, 3))
        if draw(st.booleans()):  # other ids, another order: the same work
            names = {key: f"n{key}" for key in document}
            document = {
                names[key]: {
                    **item,
                    "inputs": {
                        name: [names[value[0]], value[1]] if isinstance(value, list) else value
                        for name, value in reversed(item["inputs"].items())
                    },
                }
                for key, item in reversed(document.items())
            }
        found.append(document)
        same = draw(st.booleans())
        harmed = draw(st.sets(st.integers(0, 3))) if draw(st.booleans()) else set()
        steps.append(Step(document, steps[-1].numbers if same else draw(numbers), harmed))
    return steps


def outcome(engine, document):
    """What each Show shows and each Save has in its files (by the node that it stands on), and the recipes of all
    nodes."""
    workflow = gf.Workflow.from_json(document)
    result = engine.run(workflow)
    order, problems = validate(workflow, engine.registry, engine.settings)
    assert not problems
    prints = fingerprints(order, engine.settings)
    shown = {}
    for key, found in result.nodes.items():
        value = [Path(path).read_text() for path in found.ui["paths"]] if "paths" in found.ui else found.ui.get("value")
        shown[order[key].type.name, prints[order[key].links["value"].node].recipe] = value
    stable = {key: mine.recipe for key, mine in prints.items() if not mine.is_volatile and not mine.is_open}
    return shown, stable, result


@pytest.mark.parametrize("tier", ["memory", "disk", "both"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories())
def test_outputs_with_a_cache_equal_those_without_and_no_unchanged_node_runs(tier, history):
    with tempfile.TemporaryDirectory() as folder:
        place, bare_place = Place(folder, "output"), Place(folder, "bare")
        lasting = gf.Engine(gf.Registry(TYPES), place.settings, gf.Cache())
        seen, harmed = set(), False
        for step in history:
            place.prepare(step)
            with gf.Engine(gf.Registry(TYPES), bare_place.settings, gf.Cache(memory=0)) as bare:
                truth = outcome(bare, step.document)[0]
            if tier == "memory":
                shown, recipes, result = outcome(lasting, step.document)
            else:
                cache = gf.Cache(Path(folder) / "cache", memory=1 if tier == "disk" else 1 << 20)
                with gf.Engine(gf.Registry(TYPES), replace(place.settings, digests=Digests()), cache) as engine:
                    shown, recipes, result = outcome(engine, step.document)
                    assert not engine.cache.problems
            assert shown == truth
            again = {key for key in result.timings if recipes.get(key) in seen}
            harmed = harmed or bool(step.harmed)
            if harmed:
                again = {key for key in again if step.document[key]["class_type"] != "Save"}
            assert not again, "a recipe that was computed before ran again"
            seen |= set(recipes.values())


WORLD = {"odd": 0}
"""What `Hidden` reads without saying so."""


@node("Hidden", version="1")
def hidden(a: int = 0) -> int:
    COUNTED["Hidden", a] += 1
    return a + (WORLD["odd"] if a % 2 else 0)


def with_hidden(document):
    """The same work without lists and files; what was `Halve` reads what it does not tell."""
    found = {}
    for key, item in document.items():
        if item["class_type"] == "Halve":
            item = {**item, "class_type": "Hidden"}
        elif item["class_type"] in ("Numbers", "Read"):
            (value,) = item["inputs"].values()
            item = {"class_type": "Number", "inputs": {"value": value}}
        if item["class_type"] != "Save":
            found[key] = item
    return found


@pytest.mark.parametrize("tier", ["memory", "disk", "both"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), data=st.data())
def test_after_the_world_changed_and_a_refresh_nothing_that_stands_on_the_refreshed_is_old(tier, history, data):
    """A user who knows that something outside has changed refreshes, in a workflow of its own, all that was read from
    there; then no other workflow shows what it was before, whatever stands on it there."""
    WORLD["odd"] = 0
    COUNTED.clear()
    types = [*TYPES, hidden]
    history = [with_hidden(step.document) for step in history]
    with tempfile.TemporaryDirectory() as folder, gf.Engine(gf.Registry(types), cache=gf.Cache()) as lasting:

        def run(document, refresh=False):
            workflow = gf.Workflow.from_json(document)
            if tier == "memory":
                return shown(lasting.run(workflow, refresh=refresh))
            with gf.Engine(
                gf.Registry(types), cache=gf.Cache(folder, memory=1 if tier == "disk" else 1 << 20)
            ) as engine:
                return shown(engine.run(workflow, refresh=refresh))

        def shown(result):
            return {key: found.ui.get("value") for key, found in result.nodes.items()}

        for document in history:
            run(document)
        WORLD["odd"] = 100
        got = {key[1] for key in COUNTED if key[0] == "Hidden"}
        refreshed = {}
        for value in got:  # given as it is, and over a link: two keys
            refreshed[f"n{value}"] = {"class_type": "Number", "inputs": {"value": value}}
            refreshed[f"a{value}"] = {"class_type": "Hidden", "inputs": {"a": value}}
            refreshed[f"b{value}"] = {"class_type": "Hidden", "inputs": {"a": [f"n{value}", 0]}}
        for key in [key for key in refreshed if key[0] != "n"]:
            refreshed[f"show{key}"] = {"class_type": "Show", "inputs": {"value": [key, 0]}}
        if refreshed:
            run(refreshed, refresh=True)
        for document in data.draw(st.permutations(history)):
            with gf.Engine(gf.Registry(types), cache=gf.Cache(memory=0)) as bare:
                truth = shown(bare.run(gf.Workflow.from_json(document)))
            assert run(document) == truth


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories())
def test_what_explain_calls_a_hit_does_not_run_and_a_node_that_never_ran_is_called_a_miss(history):
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder, "output")
        with gf.Engine(gf.Registry(TYPES), place.settings, gf.Cache(Path(folder) / "cache")) as engine:
            for step in history:
                place.prepare(step)
                workflow = gf.Workflow.from_json(step.document)
                hits = {item.node for item in engine.explain(workflow) if item.hit}
                result = engine.run(workflow)
                assert not hits & result.timings.keys()
                assert all(item.hit for item in engine.explain(workflow))


# -- lists and expansions, one promise at a time ---------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, graph):
    """`run(a=(...), ...)` with a new engine on one folder -> (the result, calls that it made)."""

    def run(registry=None, **nodes):
        COUNTED.clear()
        with gf.Engine(registry or gf.Registry(TYPES), cache=gf.Cache(tmp_path)) as engine:
            result = engine.run(graph(**nodes))
        return result, Counter(COUNTED)

    return run


def test_a_mapped_node_and_what_gathers_its_list_are_hits_in_the_next_process(run):
    nodes = dict(
        n=("Numbers", {"count": 3}),
        a=("Add", {"a": "@n", "b": 5}),
        t=("Total", {"values": "@a"}),
        o=("Show", {"value": "@t"}),
        p=("Show", {"value": "@a"}),
    )
    first, calls = run(**nodes)
    assert first["o"].ui == {"value": [18]} and first["p"].ui == {"value": [5, 6, 7]} and calls["Add", 2, 5] == 1
    again, calls = run(**nodes)
    assert again["o"].ui == first["o"].ui and again["p"].ui == first["p"].ui and not calls


def test_a_list_and_a_node_that_takes_all_of_it_are_told_apart_from_single_values(run):
    assert run(n=("Numbers", {"count": 2}), o=("Show", {"value": "@n"}))[0]["o"].ui == {"value": [0, 1]}
    assert run(n=("Numbers", {"count": 1}), o=("Show", {"value": "@n"}))[0]["o"].ui == {"value": [0]}
    assert run(n=("Numbers", {"count": 0}), o=("Show", {"value": "@n"}))[0]["o"].ui == {}
    assert run(n=("Bad", {"a": 0}), o=("Show", {"value": "@n"}))[0]["o"].ui == {"value": [[0]]}


def test_an_expansion_is_a_hit_as_a_whole_and_its_nodes_are_hits_wherever_they_stand(run):
    nodes = dict(t=("Twice", {"a": 1, "b": 2}), o=("Show", {"value": "@t"}))
    first, calls = run(**nodes)
    assert first["o"].ui == {"value": [5]} and calls == {
        ("Twice", 1, 2): 1,
        ("Add", 1, 2): 1,
        ("Add", 3, 2): 1,
        ("Show", "5"): 1,
    }
    assert run(**nodes)[1] == {}
    assert run(other=("Twice", {"a": 1, "b": 2}), end=("Show", {"value": "@other"}))[1] == {}
    found, calls = run(x=("Add", {"a": 1, "b": 2}), o=("Show", {"value": "@x"}))
    assert found["o"].ui == {"value": [3]} and calls == {("Show", "3"): 1}, "what ran inside is known outside"


def test_after_an_edit_of_an_expansions_input_only_what_differs_inside_runs(run):
    run(
        t=("Twice", {"a": 1, "b": 2}),
        u=("Add", {"a": 2, "b": 3}),
        o=("Show", {"value": "@t"}),
        p=("Show", {"value": "@u"}),
    )
    found, calls = run(t=("Twice", {"a": 2, "b": 3}), o=("Show", {"value": "@t"}))
    assert found["o"].ui == {"value": [8]}
    assert calls == {("Twice", 2, 3): 1, ("Add", 5, 3): 1, ("Show", "8"): 1}


def test_a_new_version_of_a_node_that_an_expansion_used_makes_the_expansion_and_what_follows_a_miss(run):
    nodes = dict(t=("Twice", {"a": 1, "b": 2}), h=("Halve", {"a": "@t"}), o=("Show", {"value": "@h"}))
    assert run(**nodes)[0]["o"].ui == {"value": [2]}

    @node("Add", version="2")
    def add(a: int = 0, b: int = 0) -> int:
        return a + b + 10

    newer = gf.Registry([kind for kind in TYPES if kind.node_type.name != "Add"] + [add])
    assert run(newer, **nodes)[0]["o"].ui == {"value": [12]}
    assert run(**nodes)[0]["o"].ui == {"value": [2]}


def test_an_expansion_that_looks_at_a_file_sees_it_change(run, tmp_path, graph):
    path = tmp_path / "number.txt"

    @node("Read", outside=lambda _, **__: path.read_text(), version="1")
    def read() -> int:
        COUNTED["Read"] += 1
        return int(path.read_text())

    @node("Bring", version="1")
    def bring(a: int = 0) -> Expansion[int]:
        COUNTED["Bring"] += 1
        nodes = {
            "r": {"class_type": "Read", "inputs": {}},
            "s": {"class_type": "Add", "inputs": {"a": ["r", 0], "b": a}},
        }
        return Expansion(nodes, (Link("s", 0),))

    registry = gf.Registry([*TYPES, read, bring])
    nodes = dict(b=("Bring", {"a": 1}), h=("Add", {"a": "@b", "b": 0}), o=("Show", {"value": "@h"}))
    path.write_text("5")
    assert run(registry, **nodes)[0]["o"].ui == {"value": [6]}
    again, calls = run(registry, **nodes)
    assert again["o"].ui == {"value": [6]} and calls == {"Bring": 1}
    path.write_text("7")
    assert run(registry, **nodes)[0]["o"].ui == {"value": [8]}


def test_an_expansion_that_links_to_a_node_its_recipe_does_not_name_is_not_kept(run):
    @node("Reach", version="1")
    def reach() -> Expansion[int]:
        return Expansion({"s": {"class_type": "Add", "inputs": {"a": ["n", 0], "b": 1}}}, (Link("s", 0),))

    registry = gf.Registry([*TYPES, reach])
    for value in (1, 2, 1):
        nodes = dict(
            n=("Number", {"value": value}), p=("Show", {"value": "@n"}), r=("Reach", {}), o=("Show", {"value": "@r"})
        )
        assert run(registry, **nodes)[0]["o"].ui == {"value": [value + 1]}


class Weights:
    """Something that no codec knows."""

    def __init__(self, number):
        self.number = number


def test_what_stands_on_a_node_that_might_expand_is_a_hit_in_the_same_process_even_if_a_value_has_no_stored_form(graph):
    COUNTED.clear()

    @node("Load", version="1")
    def load(number: int = 0) -> AnyType | Expansion[AnyType]:
        COUNTED["Load", number] += 1
        return Weights(number)

    @node("Use", version="1")
    def use(weights: AnyType, b: int = 0) -> int:
        COUNTED["Use", weights.number, b] += 1
        weights.number += b
        return weights.number

    with gf.Engine(gf.Registry([load, use, show])) as engine:
        assert engine.registry["Load"].expands
        for _ in range(2):
            for b in (1, 2):
                workflow = graph(
                    w=("Load", {"number": 5}), u=("Use", {"weights": "@w", "b": b}), o=("Show", {"value": "@u"})
                )
                assert engine.run(workflow)["o"].ui == {"value": [5 + b]}
    assert {call: count for call, count in COUNTED.items() if call[0] != "Show"} == {
        ("Load", 5): 1,
        ("Use", 5, 1): 1,
        ("Use", 5, 2): 1,
    }


def test_what_stands_on_an_expansion_that_looks_at_a_file_sees_it_change_even_if_a_value_has_no_stored_form(
    tmp_path, graph
):
    path = tmp_path / "number.txt"

    @node("Read", outside=lambda _, **__: path.read_text(), version="1")
    def read() -> AnyType:
        return Weights(int(path.read_text()))

    @node("Bring", version="1")
    def bring() -> Expansion[AnyType]:
        return Expansion({"r": {"class_type": "Read", "inputs": {}}}, (Link("r", 0),))

    @node("Same", version="1")
    def same(value: AnyType) -> AnyType:
        return value

    @node("Use", version="1", output=True)
    def use(weights: AnyType) -> Ui:
        return Ui({"value": [weights.number]})

    with gf.Engine(gf.Registry([read, bring, same, use])) as engine:
        for number in (1, 2, 1):
            path.write_text(str(number))
            workflow = graph(b=("Bring", {}), s=("Same", {"value": "@b"}), u=("Use", {"weights": "@s"}))
            assert engine.run(workflow)["u"].ui == {"value": [number]}


@node("Evens", version="1")
def evens(a: int = 0) -> int:
    """Even numbers go on, the others are silently stopped."""
    COUNTED["Evens", a] += 1
    return gf.Blocked() if a % 2 else a


def test_a_list_that_was_stopped_in_part_is_a_hit_in_the_next_process(run):
    nodes = dict(
        n=("Numbers", {"count": 3}),
        e=("Evens", {"a": "@n"}),
        a=("Add", {"a": "@e", "b": 5}),
        o=("Show", {"value": "@a"}),
    )
    registry = gf.Registry([*TYPES, evens])
    first, calls = run(registry, **nodes)
    assert first["o"].ui == {"value": [5, 7]} and calls["Add", 0, 5] == calls["Add", 2, 5] == 1
    again, calls = run(registry, **nodes)
    assert again["o"].ui == first["o"].ui and not calls


def test_a_message_that_stopped_a_part_of_a_list_is_told_in_every_run(run):
    @node("Small", version="1")
    def small(a: int = 0) -> int:
        return gf.Blocked("too large") if a > 1 else a

    nodes = dict(
        n=("Numbers", {"count": 3}), s=("Small", {"a": "@n"}), a=("Add", {"a": "@s"}), o=("Show", {"value": "@a"})
    )
    for _ in range(3):
        with pytest.raises(gf.NodeFailed) as told:
            run(gf.Registry([*TYPES, small]), **nodes)
        assert "too large" in str(told.value)


def test_a_message_from_inside_an_expansion_is_told_in_every_run(run):
    @node("Small", version="1")
    def small(a: int = 0) -> int:
        return gf.Blocked("too large") if a > 1 else a

    @node("Many", version="1")
    def many(k: int = 0) -> Expansion[int]:
        return Expansion(
            {
                "n": {"class_type": "Numbers", "inputs": {"count": 3}},
                "s": {"class_type": "Small", "inputs": {"a": ["n", 0]}},
                "a": {"class_type": "Add", "inputs": {"a": ["s", 0]}},
            },
            (Link("a", 0),),
        )

    for _ in range(3):
        with pytest.raises(gf.NodeFailed) as told:
            run(gf.Registry([*TYPES, small, many]), m=("Many", {}), o=("Show", {"value": "@m"}))
        assert "too large" in str(told.value)
