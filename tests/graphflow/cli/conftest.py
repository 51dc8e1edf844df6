"""The command line on small node types."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from graphflow.cli import main

PACK = Path(__file__).parents[2] / "data" / "pack"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test of a command works in an empty folder with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAPHFLOW_MODELS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def call(capsys):
    """`call("run", ...)` in this process -> code, out, err."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def write(tmp_path):
    """`write(middle="Slow", steps=3)`: a workflow file of a Number, a node in the middle and a Show."""

    def write(middle="Number", **inputs):
        nodes = {
            "1": {"class_type": middle, "inputs": inputs, "_meta": {"title": "The middle"}},
            "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
        }
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(nodes))
        return path

    return write


@pytest.fixture
def pack():
    return PACK


@pytest.fixture
def environment():
    """For subprocesses: one thread, and lines as they come."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
