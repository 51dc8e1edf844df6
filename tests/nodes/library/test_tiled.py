"""A VAE in tiles gives what it gives as a whole."""

import math
from fractions import Fraction
from threading import Event as Flag

import pytest
import torch
from graphflow_nodes.families.kits import kl_vae_network
from graphflow_nodes.library.tiled import vae_decode_tiled, vae_encode_tiled
from graphflow_nodes.library.vae import vae_decode, vae_encode
from graphflow_nodes.tiles import in_tiles, tile_count
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as gf
from graphflow.events import Text

SETTINGS = gf.Settings()


@pytest.fixture(scope="module")
def vae():
    loader = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}}}
    with gf.Engine(settings=SETTINGS) as engine:
        return engine.run(gf.Workflow.from_json(loader), targets=["1"])["1"].outputs["VAE"]


def context(events=None, cancel=None):
    emit = events.append if events is not None else lambda _: None
    return gf.Context("1", SETTINGS, lambda: {}, emit, cancel or Flag())


def image(height=136, width=200, count=1):
    """Smooth shapes with some noise."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 9, width), indexing="ij")
    shapes = torch.stack([x.sin() * 0.5 + 0.5, y.cos() * 0.5 + 0.5, (x * y).sin() * 0.5 + 0.5], -1)
    return (shapes + 0.05 * torch.rand(count, height, width, 3, generator=generator)).clamp(0, 1)


def psnr(a, b):
    return 10 * math.log10(1 / ((a - b) ** 2).mean().item())


def test_decoding_in_tiles_is_decoding_the_whole(vae):
    latent = vae_encode(SETTINGS, image(count=2), vae)
    whole = vae_decode(context(), latent, vae)
    for size in (64, 96, 512):
        found = vae_decode_tiled(context(), latent, vae, tile_size=size, overlap=0)
        assert found.shape == whole.shape and psnr(found, whole) > 100


def test_encoding_in_tiles_is_encoding_the_whole(vae):
    pixels = image(141, 203, count=2)  # not multiples of 8
    whole = vae_encode(SETTINGS, pixels, vae)["samples"]
    for size in (64, 128, 512):
        found = vae_encode_tiled(context(), pixels, vae, tile_size=size)["samples"]
        assert found.shape == whole.shape and (found - whole).abs().max() < 1e-4 * whole.std()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_where_the_memory_is_short_decoding_goes_on_in_tiles_is_reported_and_is_not_cached(vae, monkeypatch, error):
    def short(*_, **__):
        raise error("CUDA out of memory")

    latent, said = {"samples": torch.randn(1, 4, 12, 9, generator=torch.Generator().manual_seed(1))}, []
    whole = vae_decode(context(), latent, vae)
    monkeypatch.setattr("graphflow_nodes.devices.vae.decode", short)
    seen = context(said)
    assert torch.allclose(vae_decode(seen, latent, vae), whole, atol=2e-5)
    assert seen.asked and any(isinstance(event, Text) and "in tiles" in event.text for event in said)


def test_a_network_that_is_not_known_layer_by_layer_is_blended(vae, monkeypatch):
    monkeypatch.setattr(kl_vae_network, "fits_exactly", lambda _: False)
    latent = vae_encode(SETTINGS, image(), vae)
    events = []
    found = vae_decode_tiled(context(events), latent, vae, tile_size=128, overlap=64)
    whole = vae_decode(context(), latent, vae)
    assert found.shape == whole.shape and psnr(found, whole) > 25  # its normalisation sees a tile at a time
    assert [event.step for event in events] == list(range(1, events[0].total + 1))
    pixels = vae_encode_tiled(context(), image(), vae, tile_size=128, overlap=64)["samples"]
    assert pixels.shape == latent["samples"].shape


def test_progress_counts_layers_and_a_cancelled_run_stops(vae):
    latent = vae_encode(SETTINGS, image(count=2), vae)
    events = []
    vae_decode_tiled(context(events), latent, vae, tile_size=64)
    assert [event.step for event in events] == list(range(1, events[0].total + 1))
    cancel = Flag()
    cancel.set()
    with pytest.raises(gf.Cancelled):
        vae_decode_tiled(context(cancel=cancel), latent, vae)


@settings(max_examples=60, deadline=None)
@given(
    *[st.integers(1, 40)] * 4,
    st.integers(0, 9),
    st.sampled_from([Fraction(1), Fraction(2), Fraction(4)]),
    st.booleans(),
)
def test_tiles_of_what_looks_at_one_place_only_are_the_whole(height, width, rows, columns, overlap, scale, cut):
    x = torch.rand(2, height, width, generator=torch.Generator().manual_seed(height))
    seen = []

    def enlarge(part):
        assert part.shape[1] <= max(rows, 1) and part.shape[2] <= max(columns, 1)
        return part.repeat_interleave(int(scale), 1).repeat_interleave(int(scale), 2) * 3.0

    found = in_tiles(enlarge, x, (rows, columns), overlap, scale, lambda: seen.append(1), cut=cut)
    assert torch.allclose(found, enlarge_whole(x, scale), atol=1e-5)
    assert len(seen) == tile_count(height, width, (rows, columns), overlap, cut)


def enlarge_whole(x, scale):
    return x.repeat_interleave(int(scale), 1).repeat_interleave(int(scale), 2) * 3.0
