"""Layers by oneDNN's kernel: the numbers of torch's own way, in rows that do not know each other."""

import copy

import pytest
import torch
from graphflow_nodes.devices import products, winograd
from graphflow_nodes.files.packed import Packed, put_packed
from graphflow_nodes.files.quantised import StoredLayer
from torch import nn

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)


@pytest.fixture
def wide(monkeypatch):
    """As on a processor where it is used."""
    monkeypatch.setattr(products, "are_by_onednn", lambda: True)
    monkeypatch.setattr(winograd, "are_by_onednn", lambda: True)


def adapted(layer):
    layer = layer.eval().requires_grad_(False)
    found = copy.deepcopy(layer)
    products.adapt(found)
    return layer, found


def randomly(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def counted(monkeypatch):
    """How often the kernel was asked."""
    calls = []
    kernel = products.product
    monkeypatch.setattr(products, "product", lambda *arguments: calls.append(1) or kernel(*arguments))
    return calls


SERVED = {
    "linear": (lambda: nn.Linear(320, 640), (2, 64, 320), 1),
    "linear without bias": (lambda: nn.Linear(320, 640, bias=False), (64, 320), 1),
    "linear of four axes": (lambda: nn.Linear(256, 512), (2, 4, 8, 256), 1),
    "convolution of 1 x 1": (lambda: nn.Conv2d(128, 320, 1), (3, 128, 12, 8), 3),
    "convolution of 1 x 1 without bias": (lambda: nn.Conv2d(128, 320, 1, bias=False), (2, 128, 12, 8), 2),
    "convolution of few places": (lambda: nn.Conv2d(128, 256, 3, padding=1), (2, 128, 6, 4), 1),
    "convolution of few places in steps": (lambda: nn.Conv2d(128, 256, 3, stride=2, padding=1), (2, 128, 7, 9), 1),
    "convolution of cells": (lambda: nn.Conv2d(16, 512, 4, stride=4), (2, 16, 32, 24), 1),
    "convolution of an uneven kernel": (lambda: nn.Conv2d(64, 128, (3, 5), padding=(0, 2)), (2, 64, 8, 8), 1),
}


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("order", ["contiguous", "channels last", "cut"])
def test_a_layer_gives_the_numbers_of_torchs_own_way(wide, counted, name, order):
    make, shape, calls = SERVED[name]
    torch.manual_seed(1)
    plain, fast = adapted(make())
    x = randomly(*shape)
    if order == "cut":
        x = randomly(*shape[:-1], shape[-1] + 3)[..., 1:-2]
    elif order == "channels last" and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, found = plain(x), fast(x)
    assert len(counted) == calls and found.shape == expected.shape
    assert (found - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("name", SERVED)
def test_a_row_has_the_same_bits_at_any_place_of_a_pass_and_beside_any_others(wide, name):
    make, shape, _ = SERVED[name]
    _, fast = adapted(make())
    rows = 8 if len(shape) > 2 else 64
    mine, others = randomly(*shape[1:]), randomly(rows, *shape[1:], seed=1)
    with torch.inference_mode():
        found = []
        for place in range(rows):
            x = others.roll(place, 0)
            x[place] = mine
            found.append(fast(x)[place])
    assert all(torch.equal(found[0], one) for one in found)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(32, 32), (64, 32)),
        (nn.Linear(1280, 1280), (4, 1280)),
        (nn.Conv2d(4, 320, 3, padding=1), (2, 4, 32, 32)),
        (nn.Conv2d(320, 320, 3, padding=1), (2, 320, 32, 32)),
        (nn.Conv2d(256, 256, 3, padding=1, groups=4), (2, 256, 4, 4)),
        (nn.Conv2d(256, 256, 3, padding=2, dilation=2), (2, 256, 4, 4)),
        (nn.Conv2d(256, 256, 3, padding=1, padding_mode="circular"), (2, 256, 4, 4)),
        (nn.Conv2d(256, 256, 3, padding="same"), (2, 256, 4, 4)),
    ],
    ids=str,
)
def test_what_would_gain_nothing_and_what_computes_in_another_way_is_left_alone(wide, counted, layer, shape):
    plain, same = adapted(layer)
    with torch.inference_mode():
        assert torch.equal(same(randomly(*shape)), plain(randomly(*shape))) and not counted


def test_other_number_formats_compute_as_ever(wide, counted):
    plain, same = adapted(nn.Linear(640, 640).bfloat16())
    x = randomly(64, 640).bfloat16()
    with torch.inference_mode():
        assert torch.equal(same(x), plain(x)) and not counted


def test_a_class_with_a_forward_of_its_own_keeps_it(wide):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    plain, same = adapted(Doubled(640, 640))
    x = randomly(64, 640)
    with torch.inference_mode():
        assert type(same) is Doubled and torch.equal(same(x), plain(x))


def test_gradients_flow_as_ever(wide, counted):
    _, fast = adapted(nn.Sequential(nn.Conv2d(128, 256, 3, padding=1), nn.Flatten(2), nn.Linear(24, 640)))
    fast.requires_grad_(True)
    fast(randomly(2, 128, 6, 4)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in fast.parameters())
    assert not counted


def test_packed_weights_are_unpacked_for_it(wide, counted):
    layer = nn.Linear(320, 640).eval().requires_grad_(False)
    numbers = layer.weight.to(torch.float8_e4m3fn)
    weight = numbers.float()
    put_packed(layer, "weight", Packed({"weight": numbers}, StoredLayer("plain"), (640, 320), torch.float32))
    products.adapt(layer)
    x = randomly(64, 320)
    with torch.inference_mode():
        found, expected = layer(x), nn.functional.linear(x, weight, layer.bias)
    assert len(counted) == 1 and (found - expected).norm() < 1e-6 * expected.norm()


def test_wrong_shapes_have_torchs_own_errors(wide):
    _, fast = adapted(nn.Sequential(nn.Linear(320, 640)))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fast(randomly(64, 321))


@pytest.mark.parametrize("facts", [("AVX512", "vendor_id : GenuineIntel"), ("AVX2", "vendor_id : AuthenticAMD")])
def test_on_processors_where_nobody_has_measured_it_networks_stay_as_they_are(monkeypatch, facts):
    capability, processor = facts
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "processor_line", lambda name: processor)
    monkeypatch.setattr(products, "are_by_onednn", products.are_by_onednn.__wrapped__)
    network = nn.Sequential(nn.Linear(640, 640), nn.Conv2d(128, 128, 1))
    products.adapt(network)
    assert [type(layer) for layer in network] == [nn.Linear, nn.Conv2d]


def test_an_environment_variable_leaves_torchs_own_way(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(products, "processor_line", lambda name: "vendor_id : AuthenticAMD")
    asked = products.are_by_onednn.__wrapped__
    assert asked()
    monkeypatch.setenv(products.VARIABLE, "0")
    assert not asked()


@pytest.mark.parametrize("m", [2, 4])
def test_convolutions_in_fewer_products_have_the_numbers_of_the_direct_form(wide, m):
    x, weight, bias = randomly(2, 64, 10, 6), randomly(96, 64, 3, 3, seed=1), randomly(96, seed=2)
    expected = nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    found = winograd.winograd(x, weight, bias, m)
    assert (found - expected).norm() < 1e-5 * expected.norm()
