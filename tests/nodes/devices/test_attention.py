"""Attention by two products and a softmax: the numbers of torch's own, in heads that do not know each other."""

import pytest
import torch
from graphflow_nodes.devices import attention as module
from graphflow_nodes.devices.attention import attention
from graphflow_nodes.devices.forward import ForwardCall, forward
from graphflow_nodes.model.row import Row
from torch.nn import functional as F

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)
CPU = torch.device("cpu")


@pytest.fixture
def counted(monkeypatch):
    """How often the kernel was asked, as on a processor where it is used."""
    calls = []
    kernel = module.product
    monkeypatch.setattr(module, "product", lambda *arguments: calls.append(1) or kernel(*arguments))
    monkeypatch.setattr(module, "are_by_onednn", lambda: True)
    return calls


def heads(rows=2, count=4, queries=640, keys=512, width=40, values=40, seed=0):
    """As networks give them: [rows, tokens, heads, width] in memory."""
    made = torch.Generator().manual_seed(seed)
    sides = ((queries, width), (keys, width), (keys, values))
    return [torch.randn(rows, tokens, count, one, generator=made).transpose(1, 2) for tokens, one in sides]


@pytest.mark.parametrize("changes", [{}, {"scale": 0.3}, {"values": 24}, {"queries": 3000, "keys": 77}], ids=str)
def test_it_gives_the_numbers_of_torchs_own(counted, changes):
    scale = changes.get("scale")
    sides = heads(**{name: value for name, value in changes.items() if name != "scale"})
    with torch.inference_mode():
        found, expected = attention(*sides, scale=scale), F.scaled_dot_product_attention(*sides, scale=scale)
    assert counted and found.shape == expected.shape
    assert (found - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize(
    "options",
    [{"attn_mask": torch.zeros(640, 512)}, {"is_causal": True}, {"keys": 64, "queries": 64}, {"dtype": torch.bfloat16}],
    ids=lambda options: str(list(options)),
)
def test_what_it_is_not_made_for_is_left_to_torch(counted, options):
    sides = heads(**{name: options[name] for name in ("keys", "queries") if name in options})
    sides = [side.to(options.get("dtype", torch.float32)) for side in sides]
    more = {name: options[name] for name in ("attn_mask", "is_causal") if name in options}
    with torch.inference_mode():
        assert torch.equal(attention(*sides, **more), F.scaled_dot_product_attention(*sides, **more))
    assert not counted


def test_shared_keys_of_several_heads_are_left_to_torch(counted):
    query, _, _ = heads(count=4)
    _, key, value = heads(count=2)
    with torch.inference_mode():
        found = attention(query, key, value, enable_gqa=True)
        assert torch.equal(found, F.scaled_dot_product_attention(query, key, value, enable_gqa=True))
    assert not counted


def test_gradients_flow_as_ever(counted):
    sides = [side.requires_grad_(True) for side in heads()]
    attention(*sides).square().mean().backward()
    assert all(side.grad is not None for side in sides) and not counted


class Net(torch.nn.Module):
    def forward(self, x):
        query = x.flatten(2).transpose(1, 2)[:, None]
        return F.scaled_dot_product_attention(query, query, query)


def answer(rows, **changes):
    call = ForwardCall("a", Net(), lambda module, stacked, *_: {"out": module(stacked["x"])}, **changes)
    return forward(call, rows, CPU, lambda: False)["out"]


def latents(count, side):
    made = torch.Generator().manual_seed(1)
    return [Row({"x": torch.randn(16, side, side, generator=made), "time": torch.tensor(1.0)}) for _ in range(count)]


def test_a_pass_over_a_large_latent_has_it_and_a_row_has_the_same_bits_at_any_place(counted):
    rows = latents(4, 32)
    found = [answer(rows[place:] + rows[:place])[-place % 4] for place in range(4)]
    assert counted and all(torch.equal(found[0], one) for one in found)


def test_a_pass_over_a_small_latent_and_one_of_compiled_code_have_torchs_own(counted):
    answer(latents(2, 24))
    answer(latents(2, 32), is_compiled=True)
    assert not counted
    assert module.attention_of_passes([Row({"tokens": torch.zeros(1024, 64)})]).__class__ is module._ByOneDNN


def test_on_other_processors_attention_is_torchs_own(counted, monkeypatch):
    monkeypatch.setattr(module, "are_by_onednn", lambda: False)
    answer(latents(2, 32))
    assert not counted
