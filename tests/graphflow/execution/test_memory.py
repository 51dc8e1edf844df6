"""`result.memory`: the main memory that a node needed at its peak."""

import sys

import pytest

import graphflow as gf
from graphflow.execution.memory import PeakMemory
from tests.graphs import graph

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can tell")


@gf.node("Needs", lane="device")
def needs(megabytes: int = 0) -> int:
    return len(bytearray(b"x") * (megabytes << 20))


@gf.node("Plain")
def plain(megabytes: int = 0) -> int:
    return len(bytearray(b"x") * (megabytes << 20))


@gf.node("Ends", output=True)
def ends(a: int = 0, b: int = 0, c: int = 0) -> gf.Ui:
    return gf.Ui({"all": [a + b + c]})


@linux
def test_a_node_of_a_device_has_its_own_peak_not_that_of_one_before():
    workflow = graph(
        a=("Needs", {"megabytes": 300}),
        b=("Needs", {"megabytes": 30}),
        c=("Plain", {}),
        e=("Ends", {"a": "@a", "b": "@b", "c": "@c"}),
    )
    with gf.Engine(gf.Registry([needs, plain, ends]), cache=None) as engine:
        memory = engine.run(workflow).memory
    assert memory.keys() == {"a", "b"}
    # the kernel counts pages in batches, so a figure may lack some
    assert 299 << 20 < memory["a"] < 400 << 20 and 29 << 20 < memory["b"] < 130 << 20


def test_where_the_system_cannot_tell_there_is_no_figure(monkeypatch, tmp_path):
    monkeypatch.setattr("graphflow.execution.memory.MARKS", tmp_path / "no" / "such")
    assert PeakMemory().bytes() is None
