"""`result.memory`: the main memory that a node needed at its peak."""

import json
import subprocess
import sys

import pytest

from graphflow.execution.memory import PeakMemory

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can tell")

SCRIPT = """
import json
import graphflow as gf

@gf.node("Needs", lane="device")
def needs(megabytes: int = 0) -> int:
    return len(bytearray(b"x") * (megabytes << 20))

@gf.node("Plain")
def plain(megabytes: int = 0) -> int:
    return len(bytearray(b"x") * (megabytes << 20))

@gf.node("Ends", output=True)
def ends(a: int = 0, b: int = 0, c: int = 0) -> gf.Ui:
    return gf.Ui({"all": [a + b + c]})

nodes = {
    "a": {"class_type": "Needs", "inputs": {"megabytes": 300}},
    "b": {"class_type": "Needs", "inputs": {"megabytes": 30}},
    "c": {"class_type": "Plain", "inputs": {}},
    "e": {"class_type": "Ends", "inputs": {"a": ["a", 0], "b": ["b", 0], "c": ["c", 0]}},
}
with gf.Engine(gf.Registry([needs, plain, ends]), cache=None) as engine:
    print(json.dumps(engine.run(nodes).memory))
"""


@linux
def test_a_node_of_a_device_has_its_own_peak_not_that_of_one_before(tmp_path):
    """In a process of its own: the memory of a large one is moved to the disk while somebody else needs it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    memory = json.loads(done.stdout)
    assert memory.keys() == {"a", "b"}
    # the kernel counts pages in batches, so a figure may lack some
    assert 299 << 20 < memory["a"] < 400 << 20 and 29 << 20 < memory["b"] < 130 << 20


def test_where_the_system_cannot_tell_there_is_no_figure(monkeypatch, tmp_path):
    monkeypatch.setattr("graphflow.execution.memory.MARKS", tmp_path / "no" / "such")
    assert PeakMemory().bytes() is None
