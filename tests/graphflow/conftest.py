"""Small node types that count their calls, and graphs of them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

import graphflow as gf
from graphflow import AnyType, Latent, Ui, node
from graphflow.cli import main

from .own_server import Server

PACK = Path(__file__).parents[1] / "data" / "cache_pack"


@pytest.fixture
def calls():
    """How often each node type was called."""
    return Counter()


@pytest.fixture
def registry(calls):
    """Number, Add, Same, Tensor, Touch, Show: each call is counted in `calls`."""

    @node("Number", version="1")
    def number(value: int = 0) -> int:
        calls["Number"] += 1
        return value

    @node("Add", version="1")
    def add(a: int, b: int = 1) -> int:
        calls["Add"] += 1
        return a + b

    @node("Sign", version="1")
    def sign(a: int) -> int:
        """Much goes in, little comes out: for early cutoff."""
        calls["Sign"] += 1
        return (a > 0) - (a < 0)

    @node("Float", version="1")
    def real(value: float = 0.0) -> float:
        calls["Float"] += 1
        return value

    @node("Any", version="1")
    def anything(value: AnyType = None) -> Annotated[Any, gf.Wire("*")]:
        calls["Any"] += 1
        return value

    @node("Tensor", version="1")
    def tensor(seed: int = 0, size: int = 64) -> Latent:
        import torch

        calls["Tensor"] += 1
        return {"samples": torch.rand(1, 4, size, size, generator=torch.Generator().manual_seed(seed))}

    @node("Dice", version="1", deterministic=False)
    def dice(sides: int = 1_000_000) -> int:
        import random

        calls["Dice"] += 1
        return random.randrange(sides)

    @node("Show", version="1", output=True)
    def show(value: AnyType) -> Ui:
        calls["Show"] += 1
        return Ui({"value": [repr(value)]})

    return gf.Registry([number, add, sign, real, anything, tensor, dice, show])


@pytest.fixture
def graph():
    """`graph(a=("Number", {"value": 1}), out=("Show", {"value": "@a"}))`: "@a" is a link to a."""

    def build(**nodes):
        def value(item):
            return [item[1:], 0] if isinstance(item, str) and item.startswith("@") else item

        return gf.Workflow.from_json(
            {
                key: {"class_type": kind, "inputs": {name: value(item) for name, item in inputs.items()}}
                for key, (kind, inputs) in nodes.items()
            }
        )

    return build


@pytest.fixture
def process(tmp_path, monkeypatch, capsys):
    """`process("run", file, ...)`: the command line in a process of its own, with the nodes of data/cache_pack.

    `.here(...)` does it in this process, which has torch loaded already; `.start(...)` gives the running process;
    `.calls()` the names of the nodes that were called so far.
    """
    log = tmp_path / "calls.txt"
    environment = {
        **os.environ,
        "CALLS": str(log),
        "GATE": str(tmp_path / "gate"),
        "GRAPHFLOW_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
    }

    def words(arguments):
        shown = [str(item) for item in arguments]
        if shown[0] in ("run", "explain"):
            shown += ["--nodes", str(PACK), "--output-dir", str(tmp_path / "output")]
        return shown

    def command(*arguments, options=()):
        return [sys.executable, *options, "-m", "graphflow.cli", *words(arguments)]

    def here(*arguments):
        monkeypatch.chdir(tmp_path)
        for name in ("CALLS", "GATE", "GRAPHFLOW_CACHE", "COLUMNS"):
            monkeypatch.setenv(name, environment[name])
        code = main(words(arguments))
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    def run(*arguments, options=(), **changes):
        done = subprocess.run(
            command(*arguments, options=options),
            env={**environment, **changes},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    def start(*arguments, **changes):
        return subprocess.Popen(
            command(*arguments),
            env={**environment, **changes},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    run.here, run.start = here, start
    run.calls = lambda: [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
    return run


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server process for all tests that need one."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()
