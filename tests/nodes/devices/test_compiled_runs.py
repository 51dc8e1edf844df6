"""KSampler and VAEDecode with --compile on, through torch's own compiler: what they give, and their recipes."""

import pytest
import torch
from graphflow_nodes import families
from graphflow_nodes.devices import compiler

import graphflow as gf
from tests.nodes.families import made_up_family


@pytest.mark.skipif(not compiler.compiler_is_here("cpu"), reason="there is no C++ compiler")
def test_sampler_and_decoder_run_compiled_within_rounding_of_eager_and_have_recipes_of_their_own(tmp_path, monkeypatch):
    """Networks of a few layers, compiled once each: a second seed finds the code, an eager result in the cache does not
    stand for a compiled one, and a compiled one does."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, made_up_family.FAMILY))
    models = made_up_family.write(tmp_path / "models")
    cache = gf.Cache(tmp_path / "cache")

    def run(mode, *seeds):
        """Of each seed: the latent, whether it came from the cache, and how many networks had been compiled by then."""
        settings = gf.Settings(models=(models,), output_dir=tmp_path, temp_dir=tmp_path, device="cpu", compile=mode)
        with gf.Engine(settings=settings, cache=cache) as engine:
            for seed in seeds:
                result = engine.run(made_up_family.workflow(**{"3__seed": seed, "3__steps": 3}), targets=["8"])
                compiled = len(list((tmp_path / "code" / "graphflow").glob("*.code")))
                latent, image = result["3"].outputs["LATENT"]["samples"], result["8"].outputs["IMAGE"]
                yield latent, image, {"3", "8"}.intersection(result.cached), compiled

    eager = list(run("off", 1, 2))
    first, second = run("on", 1, 2)
    assert not first[2] and not second[2]
    assert (eager[-1][3], first[3], second[3]) == (0, 2, 2)
    assert list((tmp_path / "code").rglob("*.so")), "code of a compiler"
    for one, other in zip((first, second), eager, strict=True):
        torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one[1], other[1], rtol=1e-3, atol=1e-3)
        assert not torch.equal(one[1], other[1])
    (again,) = run("on", 1)
    assert again[2] == {"3", "8"} and torch.equal(again[1], first[1]) and again[3] == second[3]
