"""Lists, lazy inputs, expansion and blocked values: what a node may say besides one value for one value."""

import threading
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import pytest

import graphflow as gf
from graphflow import AnyType, Blocked, Each, Every, Expansion, Grow, Lazy, Link, Match, Rows, Ui, Variants, Wire, node

from ...graphs import graph


@node("Number", version="1")
def number(value: int = 0) -> int:
    """A number."""
    return value


@node("Numbers", version="1")
def numbers(count: int, start: int = 0) -> Each[int]:
    """`count` numbers, one after the other."""
    return list(range(start, start + count))


@node("Add", version="1")
def add(a: int, b: int = 1) -> int:
    """a + b"""
    return a + b


@node("Total", version="1")
def total(values: Every[int]) -> int:
    """The sum of all that arrive."""
    return sum(values)


@node("Show", version="1", output=True)
def show(value: AnyType) -> Ui:
    """Shows what arrives."""
    return Ui({"value": [value]})


@node("Switch", version="1")
def switch(
    which: bool, yes: Lazy[Annotated[Any, Match("t")]] = None, no: Lazy[Annotated[Any, Match("t")]] = None
) -> Annotated[Any, Match("t")]:
    """One of two."""
    return yes.get() if which else no.get()


@node("Fail", version="1")
def fail(value: int = 0) -> int:
    """Never works."""
    raise ValueError("it never works")


@node("Gate", version="1")
def gate(value: int, open: bool = False, message: str = "") -> int | Blocked:
    """Lets a value through, or nothing."""
    return value if open else Blocked(message or None)


@node("Countdown", version="1")
def countdown(left: int, value: int = 0) -> int | Expansion[int]:
    """Adds 1 as often as `left` says, a round at a time."""
    if left == 0:
        return value
    return Expansion(
        {
            "sum": {"class_type": "Add", "inputs": {"a": value, "b": 1}},
            "next": {"class_type": "Countdown", "inputs": {"left": left - 1, "value": ["sum", 0]}},
        },
        (Link("next", 0),),
    )


@node("Endless", version="1")
def endless(value: int = 0) -> Expansion[int]:
    """Expands into itself for ever."""
    return Expansion({"again": {"class_type": "Endless", "inputs": {"value": value}}}, (Link("again", 0),))


@node("ShowTwice", version="1")
def show_twice(value: int) -> Expansion[int]:
    """Brings two output nodes of its own."""
    inner = {str(i): {"class_type": "Show", "inputs": {"value": value + i}} for i in range(2)}
    return Expansion(inner, (value,))


@dataclass(frozen=True)
class ByFactor:
    factor: float = 2.0


@dataclass(frozen=True)
class ToSize:
    width: int
    height: int = 8


@node("Resize", version="1")
def resize(how: Annotated[Any, Variants({"by factor": ByFactor, "to size": ToSize, "not at all": None})]) -> str:
    """What it was told."""
    return repr(how)


@node("Join", version="1")
def join(
    images: Annotated[dict[str, Any], Grow(int, prefix="image", min=2, max=5)],
    values: Annotated[dict[str, Any], Grow(Annotated[Any, Wire("FLOAT,INT")], names="abc", optional=True)],
) -> str:
    """What arrived."""
    return f"{images} {values}"


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@node("Points", version="1")
def points(points: Annotated[list[Point], Rows(Point)]) -> int:
    """The sum of all coordinates."""
    return sum(point.x + point.y for point in points)


@node("Anything", version="1")
def anything(first: int = 0, **rest: AnyType) -> str:
    """Takes what it gets."""
    return f"{first} {dict(sorted(rest.items()))}"


class Pair(NamedTuple):
    small: int
    large: Each[int]


@node("Split", version="1")
def split(value: int) -> Pair:
    """One number and a list of two."""
    return Pair(value, [value * 10, value * 10 + 1])


TYPES = [
    number,
    numbers,
    add,
    total,
    show,
    switch,
    fail,
    gate,
    countdown,
    endless,
    show_twice,
    resize,
    join,
    points,
    anything,
    split,
]


@pytest.fixture(params=["memory", "disk", "none"])
def engine(request, tmp_path):
    cache = {
        "memory": lambda: gf.Cache(),
        "disk": lambda: gf.Cache(tmp_path / "c", memory=0),
        "none": lambda: gf.Cache(memory=0),
    }
    with gf.Engine(gf.Registry(TYPES), gf.Settings(output_dir=tmp_path), cache[request.param]()) as engine:
        yield engine


def shown(engine, workflow, **options):
    return engine.run(workflow, **options)["Show"].ui.get("value")


# -- lists
# --------------------------------------------------------------------------------------------------------------


def test_a_node_runs_once_for_each_item_and_shorter_lists_repeat_their_last(engine):
    workflow = graph(
        long=("Numbers", {"count": 4}),
        short=("Numbers", {"count": 2, "start": 10}),
        sum=("Add", {"a": "@long", "b": "@short"}),
        out=("Show", {"value": "@sum"}),
    )
    assert shown(engine, workflow) == [0 + 10, 1 + 11, 2 + 11, 3 + 11]
    assert shown(engine, workflow) == [10, 12, 13, 14]


def test_every_takes_the_whole_list_in_one_call(engine):
    workflow = graph(
        many=("Numbers", {"count": 5}), sum=("Total", {"values": "@many"}), out=("Show", {"value": "@sum"})
    )
    assert shown(engine, workflow) == [10]
    one = graph(one=("Number", {"value": 7}), sum=("Total", {"values": "@one"}), out=("Show", {"value": "@sum"}))
    assert shown(engine, one) == [7]


def test_a_list_of_nothing_means_no_call_and_a_list_of_nothing(engine):
    workflow = graph(
        none=("Numbers", {"count": 0}),
        sum=("Add", {"a": "@none"}),
        total=("Total", {"values": "@sum"}),
        out=("Show", {"value": "@total"}),
        other=("Show", {"value": "@sum"}),
    )
    result = engine.run(workflow)
    assert result.nodes["out"].ui == {"value": [0]}
    assert result.nodes["other"].ui == {}


def test_lists_that_calls_give_are_put_one_after_the_other(engine):
    workflow = graph(
        many=("Numbers", {"count": 2, "start": 1}),
        split=("Split", {"value": "@many"}),
        small=("Show", {"value": "@split"}),
        large=("Show", {"value": "@split:1"}),
    )
    result = engine.run(workflow)
    assert result.nodes["small"].ui == {"value": [1, 2]}
    assert result.nodes["large"].ui == {"value": [10, 11, 20, 21]}


# -- lazy inputs
# --------------------------------------------------------------------------------------------------------


def test_a_lazy_input_that_is_not_asked_for_does_not_run(engine):
    workflow = graph(
        good=("Number", {"value": 5}),
        bad=("Fail", {}),
        pick=("Switch", {"which": True, "yes": "@good", "no": "@bad"}),
        out=("Show", {"value": "@pick"}),
    )
    assert shown(engine, workflow) == [5]
    with pytest.raises(gf.NodeFailed, match="it never works"):
        engine.run(workflow.set("pick.which", False))


def test_a_lazy_input_may_be_a_literal(engine):
    workflow = graph(pick=("Switch", {"which": False, "yes": 1, "no": "text"}), out=("Show", {"value": "@pick"}))
    assert shown(engine, workflow) == ["text"]


def test_a_lazy_choice_can_differ_from_item_to_item(engine):
    workflow = graph(
        which=("Numbers", {"count": 2}),
        yes=("Number", {"value": 5}),
        no=("Number", {"value": 6}),
        pick=("Switch", {"which": True, "yes": "@yes", "no": "@no"}),
        sum=("Add", {"a": "@pick", "b": "@which"}),
        out=("Show", {"value": "@sum"}),
    )
    assert shown(engine, workflow) == [5, 6]


# -- expansion
# ----------------------------------------------------------------------------------------------------------


def test_a_node_may_bring_more_graph_and_loops_by_bringing_itself(engine):
    workflow = graph(loop=("Countdown", {"left": 30}), out=("Show", {"value": "@loop"}))
    assert shown(engine, workflow) == [30]


def test_a_loop_of_many_rounds_needs_no_deep_stack():
    with gf.Engine(gf.Registry(TYPES)) as engine:
        workflow = graph(loop=("Countdown", {"left": 3000}), out=("Show", {"value": "@loop"}))
        assert shown(engine, workflow) == [3000]


def test_what_runs_inside_an_expansion_is_cached_by_what_it_is():
    with gf.Engine(gf.Registry(TYPES)) as engine:
        engine.run(graph(loop=("Countdown", {"left": 5}), out=("Show", {"value": "@loop"})))
        started = []
        longer = graph(a=("Countdown", {"left": 4, "value": 1}), out=("Show", {"value": "@a"}))
        result = engine.run(longer, on_event=lambda event: started.append(event))
        assert result["Show"].ui == {"value": [5]}
        assert [event.node for event in started if isinstance(event, gf.events.NodeStarted)] == ["a"]


def test_a_node_that_expands_into_itself_unchanged_is_told_so_and_not_run_for_ever(engine):
    with pytest.raises(gf.NodeFailed, match="expands into itself"):
        engine.run(graph(loop=("Endless", {}), out=("Show", {"value": "@loop"})))


def test_events_of_expanded_nodes_name_the_node_that_stands_in_the_workflow(engine):
    events = []
    engine.run(graph(loop=("Countdown", {"left": 2}), out=("Show", {"value": "@loop"})), on_event=events.append)
    inner = [
        event for event in events if isinstance(event, gf.events.NodeStarted) and event.node not in ("loop", "out")
    ]
    assert inner and all(event.display == "loop" for event in inner)


def test_an_error_inside_an_expansion_is_reported_under_the_visible_node(engine):
    @node("Bring", version="1")
    def bring(value: int = 0) -> Expansion[int]:
        """Brings a node that fails."""
        return Expansion({"x": {"class_type": "Fail", "inputs": {}}}, (Link("x", 0),))

    engine.registry.add(bring)
    with pytest.raises(gf.NodeFailed) as error:
        engine.run(graph(b=("Bring", {}), out=("Show", {"value": "@b"})))
    (problem,) = error.value.problems
    assert problem.node == "b" and "in Fail" in problem.message


def test_an_expansion_with_mistakes_lists_them_all(engine):
    @node("Wrong", version="1")
    def wrong(value: int = 0) -> Expansion[int]:
        """Brings nodes that cannot be."""
        return Expansion(
            {"x": {"class_type": "Nope", "inputs": {}}, "y": {"class_type": "Add", "inputs": {"a": "word"}}},
            (Link("z", 0),),
        )

    engine.registry.add(wrong)
    with pytest.raises(gf.NodeFailed) as error:
        engine.run(graph(w=("Wrong", {}), out=("Show", {"value": "@w"})))
    assert {problem.code for problem in error.value.problems} == {"unknown_node_type", "wrong_type", "missing_node"}


def test_output_nodes_of_an_expansion_show_what_they_have_even_when_all_is_cached(engine):
    workflow = graph(two=("ShowTwice", {"value": 3}))
    for _ in range(2):
        events = []
        engine.run(workflow, targets=["two"], on_event=events.append)
        found = [event for event in events if getattr(event, "display", None) == "two" and getattr(event, "ui", None)]
        assert sorted(event.ui["value"][0] for event in found) == [3, 4]


def test_mapped_expansions_give_one_list(engine):
    workflow = graph(
        many=("Numbers", {"count": 3}),
        loop=("Countdown", {"left": "@many", "value": 10}),
        out=("Show", {"value": "@loop"}),
    )
    assert shown(engine, workflow) == [10, 11, 12]


# -- blocked values
# -----------------------------------------------------------------------------------------------------


def test_a_blocked_value_stops_what_needs_it_in_silence(engine):
    workflow = graph(
        gate=("Gate", {"value": 1}),
        sum=("Add", {"a": "@gate"}),
        out=("Show", {"value": "@sum"}),
        free=("Show", {"value": 5}),
    )
    events = []
    result = engine.run(workflow, on_event=events.append)
    assert result.nodes["free"].ui == {"value": [5]} and result.nodes["out"].ui == {}
    assert {event.node for event in events if isinstance(event, gf.events.NodeBlocked)} == {"sum", "out"}


def test_a_blocked_value_with_a_message_fails_the_run_once_and_says_it_every_time(engine):
    workflow = graph(
        gate=("Gate", {"value": 1, "message": "not today"}),
        sum=("Add", {"a": "@gate"}),
        out=("Show", {"value": "@sum"}),
    )
    for _ in range(2):
        events = []
        with pytest.raises(gf.NodeFailed, match="not today") as error:
            engine.run(workflow, on_event=events.append)
        assert [problem.node for problem in error.value.problems] == ["sum"]
        assert [event.status for event in events if isinstance(event, gf.events.RunDone)] == ["failed"]


# -- inputs that depend on what is given
# --------------------------------------------------------------------------------


def test_a_variant_brings_its_own_inputs_and_the_node_gets_its_class(engine):
    def made(**inputs):
        return shown(engine, graph(r=("Resize", inputs), out=("Show", {"value": "@r"})))

    assert made(how="by factor") == ["ByFactor(factor=2.0)"]
    assert made(how="to size", **{"how.width": 3}) == ["ToSize(width=3, height=8)"]
    assert made(how="not at all") == ["{'how': 'not at all'}"]
    problems = engine.validate(graph(r=("Resize", {"how": "to size"}), out=("Show", {"value": "@r"})))
    assert [(problem.code, problem.input) for problem in problems] == [("missing_input", "how.width")]


def test_grown_inputs_arrive_in_order_as_many_as_there_are(engine):
    workflow = graph(
        one=("Number", {"value": 1}),
        j=("Join", {"images.image2": "@one", "images.image0": "@one", "images.image1": 5, "values.b": 1.5}),
        out=("Show", {"value": "@j"}),
    )
    assert shown(engine, workflow) == ["{'image0': 1, 'image1': 5, 'image2': 1} {'b': 1.5}"]
    problems = engine.validate(graph(j=("Join", {"images.image0": 1}), out=("Show", {"value": "@j"})))
    assert [(problem.code, problem.input) for problem in problems] == [("missing_input", "images.image1")]


def test_rows_arrive_as_a_list_of_their_class(engine):
    workflow = graph(p=("Points", {"points.0.x": 1, "points.1.x": 2, "points.1.y": 3}), out=("Show", {"value": "@p"}))
    assert shown(engine, workflow) == [6]


def test_inputs_that_are_not_declared_reach_a_node_that_takes_them(engine):
    workflow = graph(
        n=("Number", {"value": 4}), a=("Anything", {"first": 1, "x": "@n", "y": [1, 2]}), out=("Show", {"value": "@a"})
    )
    assert shown(engine, workflow) == ["1 {'x': 4, 'y': [1, 2]}"]


def test_an_output_that_matches_an_input_carries_its_type():
    @node("Text", version="1")
    def text(value: str = "") -> str:
        """A text."""
        return value

    engine = gf.Engine(gf.Registry([*TYPES, text]))
    workflow = graph(
        t=("Text", {"value": "x"}),
        pick=("Switch", {"which": True, "yes": "@t"}),
        sum=("Add", {"a": "@pick"}),
        out=("Show", {"value": "@sum"}),
    )
    (problem,) = engine.validate(workflow)
    assert (problem.code, problem.node) == ("type_mismatch", "sum")
    assert not engine.validate(workflow.set("t.value", "y").set("sum.a", 1))


# -- parts of a graph
# ---------------------------------------------------------------------------------------------------


def test_a_problem_stops_only_the_outputs_that_stand_on_it(engine):
    workflow = graph(
        bad=("Add", {"a": "word"}),
        one=("Show", {"value": "@bad"}),
        good=("Number", {"value": 2}),
        two=("Show", {"value": "@good"}),
    )
    checked = engine.check(workflow)
    assert checked.outputs == ("two",) and [problem.node for problem in checked.problems] == ["bad"]
    assert engine.run(workflow, targets=checked.outputs).nodes["two"].ui == {"value": [2]}
    with pytest.raises(gf.InvalidWorkflow):
        engine.run(workflow)
    with pytest.raises(gf.InvalidWorkflow):
        engine.run(workflow, targets=["one"])


def test_async_nodes_run_side_by_side(engine):
    import asyncio

    together = threading.Barrier(2, timeout=60)

    @node("Meet", version="1")
    async def meet(value: int) -> int:
        """Waits for the other one."""
        await asyncio.to_thread(together.wait)
        return value

    engine.registry.add(meet)
    workflow = graph(
        a=("Meet", {"value": 1}),
        b=("Meet", {"value": 2}),
        sum=("Add", {"a": "@a", "b": "@b"}),
        out=("Show", {"value": "@sum"}),
    )
    assert shown(engine, workflow) == [3]


def test_calls_of_a_mapped_async_node_run_side_by_side(engine):
    import asyncio

    together = threading.Barrier(3, timeout=60)

    @node("MeetAll", version="1")
    async def meet(value: int) -> int:
        """Waits for the others."""
        await asyncio.to_thread(together.wait)
        return value

    engine.registry.add(meet)
    workflow = graph(n=("Numbers", {"count": 3}), a=("MeetAll", {"value": "@n"}), out=("Show", {"value": "@a"}))
    assert shown(engine, workflow) == [0, 1, 2]
