"""Rules of ComfyUI's execution that packs rely on: hidden inputs, validation, numbers on links, what is reported as
cached."""

import pytest

import graphflow as gf
from graphflow.events import NodeCached, NodeDone, NodeStarted, RunStarted

from ...graphs import graph

PACK = '''
class Pass:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"flag": ("BOOLEAN", {"default": True})}, "optional": {"value": ("INT", {"default": 3})},
                "hidden": {"carried": ("*",), "spare": ("*",), "id": "UNIQUE_ID"}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "go", "t"

    def go(self, flag, carried, id, value=0, spare="the default"):
        return ((flag, carried, spare, id),)


class Number:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 3})}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "go", "t"

    def go(self, value):
        return (value,)


class Half:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("FLOAT", {"default": 3.0})}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "go", "t"

    def go(self, value):
        return ((type(value).__name__, value / 2),)


class Mask:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("MASK",), "go", "t"

    def go(self):
        return ("a mask",)


class Named:
    """Names its inputs in VALIDATE_INPUTS, and nothing about links."""
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"input1": ("IMAGE,FLOAT", {}), "input2": ("INT", {"max": 5})}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "go", "t"

    @classmethod
    def VALIDATE_INPUTS(cls, input1, input2):
        return True if input2 != 99 else "input2 is not welcome; input1 is"

    def go(self, input1, input2):
        return ((input1, input2),)


class First(Named):
    @classmethod
    def VALIDATE_INPUTS(cls, input1, input2):
        return "wrong value in input1"


class Linked(Named):
    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True


class Show:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*", {})}}
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "go", "t", True

    def go(self, value):
        return {"ui": {"text": [repr(value)]}}


class Choose:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"which": ("BOOLEAN", {}), "yes": ("*", {"lazy": True}), "no": ("*", {"lazy": True})}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "go", "t"

    def check_lazy_status(self, which, yes, no):
        return ["yes"] if which else ["no"]

    def go(self, which, yes, no):
        return (yes if which else no,)


class Twice:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {})}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "go", "t"

    def go(self, value):
        inner = {"class_type": "Number", "inputs": {"value": 2 * value}}
        return {"result": (["inner", 0],), "expand": {"inner": inner}}


KINDS = (Pass, Number, Half, Mask, Named, First, Linked, Show, Choose, Twice)
NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in KINDS}
'''


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    (folder / "rules.py").write_text(PACK)
    registry = gf.Registry.installed([folder])
    assert not registry.problems
    return registry


@pytest.fixture
def engine(registry, tmp_path):
    with gf.Engine(registry, gf.Settings(output_dir=tmp_path)) as engine:
        yield engine


def shown(engine, **nodes):
    result = engine.run(graph(**nodes, out=("Show", {"value": "@last"})))
    return eval(result["out"].ui["text"][0])


def problems(engine, **nodes):
    found = engine.validate(graph(**nodes, out=("Show", {"value": "@last"})))
    return [(problem.code, problem.node, problem.input) for problem in found]


def test_a_hidden_input_of_any_type_holds_what_the_workflow_gives(engine):
    assert shown(engine, last=("Pass", {"flag": True, "carried": 7})) == (True, 7, "the default", "last")
    assert shown(engine, n=("Number", {"value": 4}), last=("Pass", {"flag": True, "carried": "@n", "spare": [1]})) == (
        True,
        4,
        [1],
        "last",
    )


def test_a_hidden_input_that_nobody_gives_is_none_or_its_default(engine):
    assert shown(engine, last=("Pass", {"flag": True})) == (True, None, "the default", "last")


@pytest.mark.parametrize("number, truth", [(0, False), (1, True), (5, True), (-2, True), (0.0, False), (2.5, True)])
def test_a_boolean_takes_the_truth_of_a_number(engine, number, truth):
    assert shown(engine, last=("Pass", {"flag": number, "carried": 1}))[0] is truth


def test_a_boolean_takes_no_text(engine):
    assert problems(engine, last=("Pass", {"flag": "false"})) == [("wrong_type", "last", "flag")]


def test_an_int_that_is_linked_to_a_float_is_a_float_there(engine):
    assert shown(engine, n=("Number", {"value": 3}), last=("Half", {"value": "@n"})) == ("float", 1.5)


def test_naming_an_input_in_the_check_leaves_the_check_of_its_link(engine):
    mask = ("Mask", {})
    assert problems(engine, m=mask, last=("Named", {"input1": "@m", "input2": 1})) == [
        ("type_mismatch", "last", "input1")
    ]
    assert problems(engine, m=mask, last=("Linked", {"input1": "@m", "input2": 1})) == []
    number = ("Half", {"value": 1.0})
    assert problems(engine, n=number, last=("Named", {"input1": "@n", "input2": 77})) == [], (
        "it judges the range itself"
    )
    assert problems(engine, n=number, last=("Linked", {"input1": "@n", "input2": 77})) == [
        ("out_of_range", "last", "input2")
    ]


def test_a_message_is_put_on_the_input_that_it_names(engine):
    number = ("Half", {"value": 1.0})
    assert problems(engine, n=number, last=("First", {"input1": "@n", "input2": 1})) == [
        ("not_accepted", "last", "input1")
    ]
    assert problems(engine, n=number, last=("Named", {"input1": "@n", "input2": 99})) == [
        ("not_accepted", "last", "input2")
    ]


def runs(engine, workflow):
    """(reported as cached, started)"""
    events = []
    engine.run(workflow, on_event=events.append)
    started = {event.node for event in events if isinstance(event, NodeStarted)}
    done = {event.node for event in events if isinstance(event, NodeDone)}
    cached = {event.node for event in events if isinstance(event, NodeCached)}
    (begin,) = (event for event in events if isinstance(event, RunStarted))
    assert done <= started and set(begin.cached) <= cached and not started & cached
    return cached, started


def test_every_node_of_a_second_run_is_reported_as_cached_what_was_asked_for_late_too(engine):
    workflow = graph(
        a=("Number", {"value": 1}),
        b=("Twice", {"value": "@a"}),
        c=("Number", {"value": 5}),
        last=("Choose", {"which": True, "yes": "@b", "no": "@c"}),
        out=("Show", {"value": "@last"}),
    )
    cached, started = runs(engine, workflow)
    assert {"a", "b", "last", "out"} <= started and "c" not in started and not cached
    cached, started = runs(engine, workflow)
    assert cached == {"a", "b", "last", "out"} and not started


def test_a_node_that_is_found_by_its_key_in_mid_run_is_reported_and_what_it_stands_on(registry, tmp_path):
    def machine():
        return gf.Engine(registry, gf.Settings(output_dir=tmp_path), gf.Cache(tmp_path / "cache"))

    workflow = graph(
        a=("Number", {"value": 1}),
        b=("Twice", {"value": "@a"}),
        c=("Half", {"value": "@b"}),
        d=("Number", {"value": 8}),
        last=("Choose", {"which": True, "yes": "@c", "no": "@d"}),
        out=("Show", {"value": "@last"}),
    )
    with machine() as engine:
        assert {"a", "b", "c", "last", "out"} <= runs(engine, workflow)[1]
    with machine() as engine:
        cached, started = runs(engine, workflow)
        assert {"a", "b", "c", "last", "out"} <= cached | started and not started & {"a", "out"}
