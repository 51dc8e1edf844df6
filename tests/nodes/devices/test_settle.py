"""`--compile auto` from the first image to a compiled one, through KSampler: which form a run has, and its recipe.

Half a minute of a compiler is too long for a test: here compiled code is the network with a little more in its answers,
and `test_compiled.py` has the compiler.
"""

from dataclasses import replace

import pytest
import torch
from graphflow_nodes import families
from graphflow_nodes.devices import compiled, compiler
from graphflow_nodes.devices.settle import settle
from graphflow_nodes.samplers import questions

import graphflow as gf
from tests.nodes.families import made_up_family


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Engines of all modes, with one cache."""
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, made_up_family.FAMILY))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr(compiled, "Thread", Now)
    for module in (compiled, questions):
        monkeypatch.setattr(module, "compiled", otherwise)
    for module in (compiled, compiler):
        monkeypatch.setattr(module, "compiler_is_here", lambda kind: True)
    models, cache = made_up_family.write(tmp_path / "models"), gf.Cache()
    made = {
        mode: gf.Engine(
            settings=gf.Settings(models=(models,), output_dir=tmp_path, device="cpu", compile=mode), cache=cache
        )
        for mode in ("off", "auto", "on")
    }
    with cache:
        yield made


def otherwise(call):
    def forward(*given):
        return {"out": call.forward(*given)["out"] * (1 + 1e-5)}

    return replace(call, key=(call.key, "compiled"), forward=forward)


class Now:
    """A thread that is done before it is waited for: no machine is too slow for that."""

    def __init__(self, target, **_):
        self.start = target


def run(engine, **changes):
    result = engine.run(made_up_family.workflow(**changes), targets=["3"])
    return result["3"].outputs["LATENT"]["samples"], "3" in result.cached


def settled(engine, **changes):
    checked = engine.check(made_up_family.workflow(**changes), targets=["3"])
    return settle(checked.order, lambda node: node.encode(), engine.settings)


def test_runs_that_are_alike_are_eager_until_their_code_lies_there_and_then_compiled(engines):
    auto, on, off = engines["auto"], engines["on"], engines["off"]
    eager = [run(auto, **{"3__seed": seed})[0] for seed in range(compiled.SEEN)]
    again, is_cached = run(off, **{"3__seed": 0})
    assert is_cached and torch.equal(again, eager[0])  # its recipe is that of the form that it had
    assert settled_form(auto) == "on"
    found, _ = run(auto, **{"3__seed": 7})
    same, is_cached = run(on, **{"3__seed": 7})
    assert is_cached and torch.equal(found, same)
    plain, is_cached = run(off, **{"3__seed": 7})
    assert not is_cached and not torch.equal(found, plain)
    assert torch.allclose(found, plain, atol=1e-2 * float(plain.std()))


def settled_form(engine):
    """The mode of the next run."""
    from graphflow.plan.settle import planned

    checked = engine.check(made_up_family.workflow(**{"3__seed": 99}), targets=["3"])
    return planned(checked.order, engine.settings)[0].compile


def test_prompts_and_seeds_are_alike_and_sizes_models_and_guidance_are_not(engines):
    auto = engines["auto"]
    first = settled(auto).alike
    assert first and first == settled(auto, **{"3__seed": 5, "3__steps": 9, "6__text": "a pear"}).alike
    others = [{"5__width": 128}, {"5__batch_size": 2}, {"3__cfg": 1.0}]
    assert len({first, *(settled(auto, **one).alike for one in others)}) == 4
    assert settled(engines["off"]) is engines["off"].settings and settled(engines["on"]) is engines["on"].settings


def test_without_a_compiler_nothing_is_settled(engines, monkeypatch):
    monkeypatch.setattr(compiler, "compiler_is_here", lambda kind: False)
    assert settled(engines["auto"]) is engines["auto"].settings
