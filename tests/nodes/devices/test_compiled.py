"""Denoisers in compiled form: which calls have one, when `auto` does it, and that its code is used again."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from graphflow_nodes.devices import compiled as module_of
from graphflow_nodes.devices import compiler
from graphflow_nodes.devices.compiled import Forms, can_be_frozen
from graphflow_nodes.devices.environment import numerics, sampling
from graphflow_nodes.devices.forward import ForwardCall
from graphflow_nodes.devices.settle import is_noted
from graphflow_nodes.files.packed import Packed, put_packed
from graphflow_nodes.files.quantised import StoredLayer
from graphflow_nodes.model.row import Row

import graphflow as gf

HAS_COMPILER = compiler.compiler_is_here("cpu")
CPU = torch.device("cpu")


class Net(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.block = torch.nn.Linear(32, 32)

    def forward(self, x):
        return torch.sin(self.block(x))  # which no kernel of the linear layer takes in


def answered(module, stacked, common, ragged):
    return {"out": module(stacked["x"])}


def call(seed=1, key="a", **changes):
    return ForwardCall(key, Net(seed).eval().requires_grad_(False), answered, **changes)


def rows(count, width=32):
    made = torch.Generator().manual_seed(5)
    return [Row({"x": torch.randn(4, width, generator=made)}) for _ in range(count)]


def test_compiling_is_a_part_of_the_recipe_where_it_happens(monkeypatch):
    monkeypatch.setattr(compiler, "compiler_is_here", lambda kind: True)
    found = {mode: sampling(gf.Settings(device="cpu", compile=mode)) for mode in ("off", "auto", "on")}
    assert found["auto"] == found["off"] and found["on"] == found["off"] + "; compiled"
    assert numerics(gf.Settings(device="cpu", compile="on")) == numerics(gf.Settings(device="cpu"))
    monkeypatch.setattr(compiler, "compiler_is_here", lambda kind: False)
    assert sampling(gf.Settings(device="cpu", compile="on")) == found["off"]


def test_a_word_that_is_not_a_form_is_a_problem():
    with pytest.raises(gf.GraphFlowError, match="'fast' is not off, auto or on"):
        sampling(gf.Settings(device="cpu", compile="fast"))


def test_what_cannot_be_frozen_runs_eagerly(monkeypatch):
    monkeypatch.setattr(module_of, "compiler_is_here", lambda kind: True)
    plain = call()
    assert can_be_frozen(plain) and not can_be_frozen(replace(plain, is_changed=True))
    packed = call()
    numbers = {"weight": packed.module.block.weight.to(torch.float8_e4m3fn)}
    put_packed(packed.module, "block.weight", Packed(numbers, StoredLayer("plain"), (32, 32), torch.float32))
    assert not can_be_frozen(packed)
    forms = Forms(CPU)
    forms.saw(b"run", packed, rows(1), 1)
    assert not forms.seen and can_be_frozen(plain)
    monkeypatch.setattr(module_of, "compiler_is_here", lambda kind: False)
    assert not can_be_frozen(plain)


@pytest.fixture
def behind(monkeypatch, tmp_path):
    """What would be compiled in the background is noted here, at once."""
    made = []
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module_of, "compiler_is_here", lambda kind: True)
    monkeypatch.setattr(module_of, "compiled", lambda one: made.append(one) or one)
    monkeypatch.setattr(module_of, "Thread", Now)
    return made


def test_auto_compiles_behind_the_runs_what_runs_alike_ask_often(behind):
    forms, plain = Forms(CPU), call()
    for _ in range(2):
        forms.saw(b"run", plain, rows(1), 2)
    assert not behind and not is_noted(b"run")
    forms.saw(b"run", plain, rows(1), 2)
    assert behind == [plain] and is_noted(b"run")
    forms.saw(b"run", plain, rows(1), 4)  # passes of another size
    forms.saw(b"other", replace(plain, key="b"), rows(1), 2)  # other weights
    assert len(behind) == 1 and not is_noted(b"other")


def test_runs_are_compiled_when_all_that_they_ask_is(behind):
    forms, one, two = Forms(CPU), call(), call(2, "b")
    for _ in range(3):
        forms.saw(b"first", one, rows(1), 2)
    for number in range(3):
        forms.saw(b"both", one, rows(1), 2)
        assert not is_noted(b"both"), number
        forms.saw(b"both", two, rows(1), 2)
    assert is_noted(b"both") and is_noted(b"first") and behind == [one, two]


def test_a_network_that_auto_cannot_compile_goes_on_eagerly(behind, monkeypatch):
    monkeypatch.setattr(module_of, "compiled", lambda one: 1 / 0)
    forms, plain = Forms(CPU), call()
    for _ in range(6):
        forms.saw(b"run", plain, rows(1), 2)
    assert forms.seen.total() == 6 and not forms.ready and not is_noted(b"run")


class Now:
    """A thread that is done before it is waited for."""

    def __init__(self, target, **_):
        self.start = target


def test_a_run_goes_on_in_the_form_that_it_began_in():
    from types import SimpleNamespace

    from graphflow_nodes.samplers.denoiser import Denoiser

    asked = Denoiser.__new__(Denoiser)
    asked.memory, asked._questions = {}, SimpleNamespace(calls=SimpleNamespace(is_compiled=True))
    kept = asked.memory_tensors()
    asked._questions.calls.is_compiled = None
    asked.recall({"x": torch.zeros(1), **kept})
    assert asked._questions.calls.is_compiled is True
    asked.recall({"x": torch.zeros(1)})
    assert asked._questions.calls.is_compiled is False
    asked._questions.calls.is_compiled = None
    asked.recall({})
    assert asked._questions.calls.is_compiled is None


PROCESS = """
    import torch
    from graphflow_nodes.devices.forward import forward
    from graphflow_nodes.devices.compiled import compiled
    from tests.nodes.devices.test_compiled import CPU, call, rows

    def answer(one):
        return forward(one, rows(2), CPU, lambda: False)["out"]

    first, second = call(1), call(2)  # of one class: code of the first would give the second stale answers
    for one in (first, second):
        assert torch.allclose(answer(compiled(one)), answer(one), atol=1e-5) and compiled(one).key != one.key
    before = answer(compiled(first))
    first.module.block.weight.zero_()
    assert torch.equal(answer(compiled(first)), before), "its weights are frozen into the code"
"""


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C++ compiler")
def test_compiled_code_gives_the_answers_of_its_own_weights_and_the_next_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    libraries = []
    for _ in range(2):
        command = [sys.executable, "-c", textwrap.dedent(PROCESS)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        libraries.append({path: path.stat().st_ino for path in tmp_path.rglob("*.so")})
    assert libraries[0] and libraries[0] == libraries[1]
