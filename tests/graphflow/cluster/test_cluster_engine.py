"""`gf.Engine(cluster=gf.connect(...))`: a workflow's nodes and a sweep's variants run on a server's workers, with the
values, events, cache and bits of a run here."""

import signal

import numpy as np
import pytest
from PIL import Image

import graphflow as gf

from ..own_server import TOKEN, Server


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return f"file://{tmp_path_factory.mktemp('shared')}"


@pytest.fixture(scope="module")
def server(tmp_path_factory, shared):
    found = Server(tmp_path_factory.mktemp("site"), ("--cache-remote", shared))
    yield found
    found.kill(signal.SIGTERM)


@pytest.fixture
def remote(server, tmp_path):
    return gf.connect(server.url, token=TOKEN, output_dir=tmp_path / "fetched")


@pytest.fixture
def engine(remote, shared, tmp_path):
    settings = gf.Settings(output_dir=tmp_path / "out")
    cache = gf.Cache(tmp_path / "cache", remote=shared)
    with gf.Engine(settings=settings, cache=cache, cluster=remote) as found:
        yield found


def image_of(text="a red apple", seed=1):
    from graphflow_nodes import api as n

    with gf.Graph() as g:
        model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        words = n.CLIPTextEncode(clip=clip, text=text)
        latent = n.EmptyLatentImage(width=64, height=64)
        done = n.KSampler(model=model, positive=words, negative=words, latent_image=latent, seed=seed, steps=2)
        n.SaveImage(images=n.VAEDecode(samples=done, vae=vae), filename_prefix="apple")
    return g


def pixels(result):
    return [np.asarray(Image.open(image.path)) for image in result.images]


def test_nodes_that_need_a_device_run_there_with_the_bits_and_events_of_a_run_here(engine, remote, tmp_path):
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path / "here"), cache=gf.Cache(tmp_path / "alone")) as alone:
        at_home = []
        expected = pixels(alone.run(image_of(), on_event=at_home.append))
    events = []
    result = engine.run(image_of(), on_event=events.append)
    assert result.images[0].path.parent == tmp_path / "out"
    assert all((one == other).all() for one, other in zip(pixels(result), expected, strict=True))

    def told(found, *kinds):
        return [
            (type(event).__name__, event.node, getattr(event, "step", 0)) for event in found if type(event) in kinds
        ]

    ends = gf.NodeStarted, gf.NodeDone
    assert sorted(told(events, *ends)) == sorted(told(at_home, *ends))
    steps = told(events, gf.Progress)
    assert steps and set(steps) <= set(told(at_home, gf.Progress)), "steps between two looks are left out"
    assert not result.models, "nothing was loaded here"
    assert result.timings["KSampler"] > 0
    again = engine.run(image_of())
    assert not again.timings, "what the cluster has computed is cached here"


def test_variants_of_a_sweep_run_there_each_with_the_bits_of_a_run_alone(engine, server, tmp_path):
    found = gf.sweep(image_of("a pear"), {"KSampler.seed": [1, 2]}).run(engine)
    assert found.ran["KSampler"] == 2 and found.ran["CLIPTextEncode"] == 1
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path / "here"), cache=gf.Cache(tmp_path / "alone")) as alone:
        for variant in found:
            (expected,) = pixels(alone.run(image_of("a pear", variant.values["KSampler.seed"])))
            assert (np.asarray(Image.open(variant.images[0].path)) == expected).all()


def test_what_only_this_process_has_runs_here(engine):
    @gf.node("Shout")
    def shout(text: str) -> str:
        return text.upper()

    from graphflow_nodes import api as n

    with gf.Graph() as g:
        _, clip, _ = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        words = n.CLIPTextEncode(clip=clip, text=shout(text="a plum"))
    result = g.run(engine, targets=[words])
    assert "CLIPTextEncode" in result.timings


def test_a_cache_that_nobody_else_has_is_refused(remote):
    with pytest.raises(gf.GraphFlowError) as raised:
        gf.Engine(cluster=remote)
    assert raised.value.problems[0].code == "no_shared_cache"
