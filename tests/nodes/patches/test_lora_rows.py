"""LoRAs applied by rows: samplers with different files share passes, and each gets the bits that it has alone."""

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.devices.use import open_device, pool_of
from graphflow_nodes.model.patch import RowPatch
from graphflow_nodes.samplers.row_terms import RANKS, forward_with_terms, terms_of
from safetensors.torch import save_file

import graphflow as gf
from tests.nodes.families import tiny

from .test_lora import Q, kohya, latent_of, pair, workflow

CONV = "down_blocks.0.resnets.0.conv1"


def names():
    """Modules of the small model: attentions, a feed-forward, a convolution."""
    found = {
        f"down_blocks.{level}.attentions.0.transformer_blocks.0.attn2.to_k": (width, 64)
        for level, width in ((0, 32), (1, 64))
    }
    return {Q: (32, 32), **found, "mid_block.attentions.0.transformer_blocks.0.attn1.to_v": (64, 64)}


def file(rank, salt):
    tensors = {}
    for module, (out, into) in names().items():
        tensors |= kohya("lora_unet_" + module.replace(".", "_"), out, into, rank=rank, salt=salt)
    up, _ = pair(32, 32, rank=rank, salt=salt)
    down = torch.randn(rank, 32, 3, 3, generator=torch.Generator().manual_seed(salt)) / 17
    key = "lora_unet_" + CONV.replace(".", "_")
    return tensors | {f"{key}.lora_up.weight": up[:, :, None, None].contiguous(), f"{key}.lora_down.weight": down}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows") / "models"
    tiny.tiny("sd1").save(folder / "checkpoints" / "sd1.safetensors")
    (folder / "loras").mkdir()
    for name, rank, salt in (("a", 4, 1), ("b", 8, 2), ("c", 2, 3)):
        save_file(file(rank, salt), folder / "loras" / f"{name}.safetensors")
    return folder


@pytest.fixture
def engine(models, tmp_path):
    def made(together=1):
        settings = gf.Settings(models=(models,), device="cpu", output_dir=tmp_path, together=together)
        return gf.Engine(settings=settings)

    return made


def run(engine, *loras, kind="LoraLoaderBypass", **more):
    with engine as opened:
        return latent_of(opened.run(workflow("sd1", *loras, kind=kind, **more)))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.line = torch.nn.Conv2d(4, 6, 3, padding=1, stride=2), torch.nn.Linear(6, 5)

    def forward(self, x):
        return self.line(torch.tanh(self.conv(x)).movedim(1, -1))


@dataclass(frozen=True)
class Terms(RowPatch):
    """Made-up terms at both modules of Net."""

    rank: int
    salt: int

    def terms(self, part):
        drawn = torch.Generator().manual_seed(self.salt)
        shapes = {"conv": (6, 36), "line": (5, 6)}
        return {
            name: tuple(torch.randn(shape, generator=drawn) for shape in ((out, self.rank), (self.rank, into)))
            for name, (out, into) in shapes.items()
        }


def test_each_row_of_a_pass_gets_what_merged_weights_would_give_it():
    """In float64, where rounding hides nothing."""
    patches = [[Terms(2, 1)], [Terms(3, 2)], [Terms(2, 3), Terms(5, 4)]]
    found = [terms_of(SimpleNamespace(patches=tuple(some)), "denoiser") for some in patches]
    assert len({terms.layout for terms in found}) == 1, "ranks 2, 3 and 7 are filled up to 8"
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    stacked = {"x": x, "row_terms": torch.stack([terms.vector for terms in found])}
    call = forward_with_terms(lambda module, stacked, common, ragged: {"out": module(stacked["x"])})
    network = Net().double()
    got = call(network, stacked, (found[0].layout,), {})["out"]
    for row, some in enumerate(patches):
        merged = Net().double()
        for patch in some:
            for name, (up, down) in patch.terms("denoiser").items():
                weight = merged.get_submodule(name).weight.data
                weight += (up.double() @ down.double()).view(weight.shape)
        torch.testing.assert_close(got[row], merged(x[row : row + 1])[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network(x), Net().double()(x), rtol=0, atol=0)  # nothing of it stays


def test_the_weights_in_memory_are_those_of_the_plain_model(engine):
    pool = pool_of("cpu")
    pool.free_some()
    with engine() as opened:
        opened.run(workflow("sd1"))
        result = opened.run(workflow("sd1", ("a", 1.0), kind="LoraLoaderBypass"))
    denoisers = [event for event in result.models if event.part == "denoiser"]
    assert [event.action for event in denoisers] == ["reused"]
    assert [(patch.file, patch.form, patch.here) for patch in denoisers[0].patches] == [
        ("a.safetensors", "rows", len(names()) + 1)
    ]


def test_samplers_with_different_files_and_strengths_share_passes_and_keep_their_bits(engine):
    cases = [(name, strength) for name in "abc" for strength in (0.3, 1.0)]
    alone = {case: run(engine(together=8), case) for case in cases}
    assert len({one.numpy().tobytes() for one in alone.values()}) == len(cases)
    opened = engine(together=8)
    loop = open_device(opened.settings).loop
    shared, found = loop.counts.shared, {}
    gate = threading.Barrier(len(cases))

    def one(case):
        gate.wait()
        found[case] = latent_of(opened.run(workflow("sd1", case, kind="LoraLoaderBypass"), refresh=True))

    with opened:
        threads = [threading.Thread(target=one, args=(case,)) for case in cases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert loop.counts.shared > shared, "some passes had rows of several samplers"
    for case in cases:
        assert torch.equal(found[case], alone[case]), case


def test_modules_that_are_not_low_rank_are_merged_and_the_run_says_so(models, engine):
    tensors = file(4, 5)
    tensors["lora_unet_mid_block_attentions_0_norm.w_norm"] = torch.full((64,), 0.2)
    save_file(tensors, models / "loras" / "mixed.safetensors")
    heard = []
    with engine() as opened:
        opened.run(workflow("sd1", ("mixed", 1.0), kind="LoraLoaderBypass"), on_event=heard.append)
    texts = [event.text for event in heard if hasattr(event, "text")]
    assert f"mixed.safetensors: 1 of {len(names()) + 2} modules are not low-rank terms alone, and are merged" in texts


def test_ranks_of_real_files_have_a_bucket():
    assert set(RANKS) >= {8, 16, 32, 64, 128}
