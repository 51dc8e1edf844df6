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
from graphflow_nodes.files.packed import Packed, put_packed
from graphflow_nodes.files.quantised import StoredLayer
from graphflow_nodes.model.entry import Row

import graphflow as gf

HAS_COMPILER = compiler.compiler_is_here("cpu")
CPU = torch.device("cpu")


class Net(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.block = torch.nn.Linear(32, 32)

    def forward(self, x):
        return torch.tanh(self.block(x))


def answered(module, stacked, common, ragged):
    return {"out": module(stacked["x"])}


def call(seed=1, key="a", **changes):
    return ForwardCall(key, Net(seed).eval().requires_grad_(False), answered, **changes)


def rows(count, width=32):
    made = torch.Generator().manual_seed(5)
    return [Row({"x": torch.randn(4, width, generator=made)}) for _ in range(count)]


def settled(forms, *arguments, times=1):
    return [forms.settle(*arguments) for _ in range(times)][-1]


def test_compiling_is_a_part_of_the_recipe_where_it_happens(monkeypatch):
    monkeypatch.setattr(compiler, "compiler_is_here", lambda kind: True)
    found = {mode: sampling(gf.Settings(device="cpu", compile=mode)) for mode in ("off", "auto", "on")}
    assert len(set(found.values())) == 3 and found["on"] == found["off"] + "; compiled"
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
    assert not Forms(CPU).settle("on", packed, rows(1), 1) and Forms(CPU).settle("on", plain, rows(1), 1)
    monkeypatch.setattr(module_of, "compiler_is_here", lambda kind: False)
    assert not Forms(CPU).settle("on", plain, rows(1), 1)


def test_auto_compiles_behind_the_runs_a_shape_that_is_seen_often(monkeypatch):
    monkeypatch.setattr(module_of, "compiler_is_here", lambda kind: True)
    monkeypatch.setattr(module_of, "compiled", lambda one: made.append(one) or one)
    monkeypatch.setattr(module_of, "Thread", Now)
    made, forms, plain = [], Forms(CPU), call()
    assert not settled(forms, "auto", plain, rows(1), 2, times=2) and not made
    assert not settled(forms, "auto", plain, rows(1), 2)  # the third begins it, and runs eagerly itself
    assert made == [plain] and settled(forms, "auto", plain, rows(1), 2)
    assert not settled(forms, "auto", plain, rows(1), 4)  # passes of another size
    assert not settled(forms, "auto", replace(plain, key="b"), rows(1), 2)  # other weights


def test_a_network_that_auto_cannot_compile_goes_on_eagerly(monkeypatch):
    monkeypatch.setattr(module_of, "compiler_is_here", lambda kind: True)
    monkeypatch.setattr(module_of, "compiled", lambda one: 1 / 0)
    monkeypatch.setattr(module_of, "Thread", Now)
    forms, plain = Forms(CPU), call()
    assert not settled(forms, "auto", plain, rows(1), 2, times=6) and forms.failed


class Now:
    """A thread that is done before it is waited for."""

    def __init__(self, target, args, **_):
        self.start = lambda: target(*args)


def test_a_run_goes_on_in_the_form_that_it_began_in():
    from types import SimpleNamespace

    from graphflow_nodes.samplers.denoiser import Denoiser

    asked = Denoiser.__new__(Denoiser)
    asked.memory, asked._questions = {}, SimpleNamespace(is_compiled=True)
    kept = asked.memory_tensors()
    asked._questions.is_compiled = None
    asked.recall({"x": torch.zeros(1), **kept})
    assert asked._questions.is_compiled is True
    asked.recall({"x": torch.zeros(1)})
    assert asked._questions.is_compiled is False
    asked._questions.is_compiled = None
    asked.recall({})
    assert asked._questions.is_compiled is None


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
        libraries.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.so")})
    assert libraries[0] and libraries[0] == libraries[1]
