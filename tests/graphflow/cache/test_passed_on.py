"""Outputs that are inputs passed on: for links, not for results, and not read where nobody wants them."""

from typing import Annotated, Any

import pytest

import graphflow as gf
from graphflow import Context, PassedOn, Registry, Ui, Wire, node


@node("Make", category="test", version="1")
def make(text: str) -> Annotated[Any, Wire("HEAVY")]:
    return text * 1000


@node("Show", category="test", version="1", output=True)
def show(value: Annotated[Any, Wire("HEAVY")], context: Context) -> Ui[Annotated[Any, Wire("HEAVY"), PassedOn()]]:
    return Ui({"text": [value[:1]]}, (value,))


@node("Length", category="test", version="1", output=True)
def length(value: Annotated[Any, Wire("HEAVY")]) -> Ui[int]:
    return Ui({"text": [str(len(value))]}, (len(value),))


@pytest.fixture
def workflow():
    return gf.Workflow.from_json(
        {
            "a": {"class_type": "Make", "inputs": {"text": "x"}},
            "b": {"class_type": "Show", "inputs": {"value": ["a", 0]}},
        }
    )


def engine(folder):
    return gf.Engine(registry=Registry([make, show, length]), cache=gf.Cache(folder))


def test_it_is_not_among_the_results_and_not_read_where_nothing_is_linked_to_it(tmp_path, workflow, monkeypatch):
    with engine(tmp_path) as first:
        done = first.run(workflow)
    assert done.nodes["b"].ui == {"text": ["x"]} and done.nodes["b"].outputs == {}
    with engine(tmp_path) as second:
        monkeypatch.setattr(type(second.cache.disk), "_value", lambda *_: pytest.fail("an output is read"))
        again = second.run(workflow)
    assert not again.timings
    assert again.nodes["b"].ui == {"text": ["x"]} and again.nodes["b"].outputs == {}


def test_what_is_linked_to_it_gets_the_value_also_from_the_cache(tmp_path, workflow):
    linked = gf.Workflow.from_json({**workflow.to_json(), "c": {"class_type": "Length", "inputs": {"value": ["b", 0]}}})
    with engine(tmp_path) as first:
        first.run(workflow)
    with engine(tmp_path) as second:
        found = second.run(linked)
    assert set(found.timings) == {"c"} and found.nodes["c"].ui == {"text": ["1000"]}
