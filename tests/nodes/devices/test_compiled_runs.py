"""KSampler with --compile on, through torch's own compiler: what is run, what it gives, and what its recipe is."""

import pytest
import torch
from graphflow_nodes import families
from graphflow_nodes.devices import compiler

import graphflow as gf
from tests.nodes.families import made_up_family


@pytest.mark.skipif(not compiler.compiler_is_here("cpu"), reason="there is no C++ compiler")
def test_a_sampler_runs_compiled_within_rounding_of_eager_and_has_a_recipe_of_its_own(tmp_path, monkeypatch):
    """One network of a few layers, compiled once: a second seed finds the code, an eager result in the cache does not
    stand for a compiled one, and a compiled one does."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, made_up_family.FAMILY))
    models = made_up_family.write(tmp_path / "models")
    cache = gf.Cache(tmp_path / "cache")

    def run(mode, *seeds):
        """Of each seed: the latent, whether it came from the cache, and how many graphs had been compiled by then."""
        settings = gf.Settings(models=(models,), output_dir=tmp_path, temp_dir=tmp_path, device="cpu", compile=mode)
        with gf.Engine(settings=settings, cache=cache) as engine:
            for seed in seeds:
                result = engine.run(made_up_family.workflow(**{"3__seed": seed, "3__steps": 3}), targets=["3"])
                compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
                yield result["3"].outputs["LATENT"]["samples"], "3" in result.cached, compiled

    eager = list(run("off", 1, 2))
    before = eager[-1][2]
    first, second = run("on", 1, 2)
    assert (first[1], second[1]) == (False, False)
    assert first[2] == before + 1 and second[2] == first[2]
    assert list((tmp_path / "code").rglob("*.so")), "code of a compiler"
    for one, other in zip((first, second), eager, strict=True):
        torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-4)
    (again,) = run("on", 1)
    assert again[1] and torch.equal(again[0], first[0]) and again[2] == second[2]
