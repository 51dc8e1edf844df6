"""Networks as compiled code that lies on disk without their weights, through torch's own compiler."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from graphflow_nodes.devices import frozen
from graphflow_nodes.devices.compiler import compiler_is_here
from graphflow_nodes.devices.frozen import OWN, Frozen
from graphflow_nodes.families.qwen_image.places import _turns
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from torch import Tensor

from tests.nodes.families import asking
from tests.nodes.families.denoisers import DENOISERS

pytestmark = pytest.mark.skipif(not compiler_is_here("cpu"), reason="there is no C++ compiler")


class Net(torch.nn.Module):
    """With all that is folded: a convolution in tiles, packed matrices, a few numbers that stand in the code."""

    watched: Any = None
    """Called within a pass."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = torch.nn.Conv2d(64, 64, 3, padding=1)
        self.matrix = torch.nn.Linear(64, 48)
        self.last = torch.nn.Linear(48, 3)
        self.last.bias.data.fill_(0.5)
        self.register_buffer("table", torch.linspace(0, 1, 48), persistent=False)
        self.gain = 2.0
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, shift: Tensor, places: dict[str, Any]) -> dict[str, Any]:
        if Net.watched:
            Net.watched()
        h = self.convolution(x) + shift[:, None, None, None]
        h = torch.tanh(self.matrix(h.mean((2, 3)))) * self.table + places["more"] * self.gain
        return {"out": self.last(h), "inside": (h,)}


class Branching(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x


def never(network: torch.nn.Module) -> Any:
    raise AssertionError("it can be traced")


def questions(count: int = 2) -> dict[str, Any]:
    made = torch.Generator().manual_seed(count)
    x, shift = torch.randn(count, 64, 16, 16, generator=made), torch.randn(count, generator=made)
    return {"places": {"more": torch.randn(count, 48, generator=made)}, "shift": shift, "x": x}


@torch.inference_mode()
def answer(asked: Any, **named: Any) -> Tensor:
    """The names are in another order than the network's arguments."""
    found = asked(**(named or questions()))
    return torch.cat([found["out"].flatten(), found["inside"][0].flatten()])


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> list[torch.nn.Module]:
    """The networks that were compiled, with a folder of their own for code."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compile, networks = frozen._compiled, []

    def noted(network: torch.nn.Module, *arguments: Any) -> Any:
        networks.append(network)
        return compile(network, *arguments)

    monkeypatch.setattr(frozen, "_compiled", noted)
    return networks


def test_code_is_used_again_with_the_weights_of_the_network_that_asks(
    compilations: list[torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = Net(1), Net(2)
    traced = frozen._traced
    monkeypatch.setattr(frozen, "_traced", lambda *given: _while(first, lambda: traced(*given)))
    found = answer(Frozen(first, never))
    torch.testing.assert_close(found, answer(first), rtol=1e-4, atol=1e-4)
    assert not torch.equal(found, answer(first)), "it is compiled code"

    again = Net(1)
    again.__dict__[OWN] = Frozen(again, never)
    assert torch.equal(answer(again.__dict__[OWN]), found), "the same weights, the same bits"
    (code,) = again.__dict__[OWN]._codes.values()
    values = [weakref.ref(value) for value in code._run.__globals__.values() if isinstance(value, Tensor)]
    del again, code
    gc.collect()
    assert values and not any(value() is not None for value in values), "what was made from its weights goes with it"
    torch.testing.assert_close(answer(Frozen(other, never)), answer(other), rtol=1e-4, atol=1e-4)
    assert compilations == [first]

    read = frozen.read_code
    monkeypatch.setattr(
        frozen, "read_code", lambda name: {**(read(name) or {}), "inlined": {"weight_5": [1.0, 1.0, 1.0]}}
    )
    monkeypatch.setattr(frozen, "_compiled", lambda network, *_: compilations.append(network))
    with pytest.raises(TypeError):  # the stub gives no code
        answer(Frozen(other, never))
    assert compilations == [first, other], "numbers that stand in the code are those of its weights"


def _while(network: Net, trace: Any) -> Any:
    """Another thread may ask the network while it is traced: none of its weights is replaced meanwhile."""
    seen: list[type] = []
    Net.watched = lambda: seen.append(type(network.matrix.weight))
    try:
        found = trace()
    finally:
        Net.watched = None
    assert seen == [torch.nn.Parameter]
    return found


class Stub:
    """In place of code: what was asked for."""

    def __init__(self, made: list[tuple[Any, ...]]) -> None:
        self.made = made

    def __call__(self, network: torch.nn.Module, arguments: Any, named: Any, key: tuple[Any, ...]) -> Any:
        self.made.append(key)
        return frozen._Code(lambda leaves: leaves[:1], [0], torch.utils._pytree.tree_structure(0))


def test_each_shape_and_each_setting_has_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(frozen, "_code", Stub(made))
    network = Net(1)
    asked = network.__dict__[OWN] = Frozen(network, never)
    for _ in range(2):
        asked(**questions())
        asked(**questions(3))
    assert len(made) == 2
    asked.gain = 3.0  # as families do that set something before a pass
    asked(**questions())
    assert len(made) == 3 and network.gain == asked.gain == 3.0
    asked.gain = 2.0
    asked(**questions())
    assert len(made) == 3, "the code of before"
    transposed = questions()
    transposed["x"] = transposed["x"].mT
    asked(**transposed)
    assert len(made) == 4


def test_what_cannot_be_written_down_as_one_graph_is_compiled_in_another_way(
    compilations: list[torch.nn.Module],
) -> None:
    asked = Frozen(Branching(), lambda network: lambda x: network(x) * 10)
    assert torch.equal(asked(torch.ones(2)), torch.full((2,), 20.0))
    assert torch.equal(asked(-torch.ones(2)), torch.full((2,), -10.0)) and len(compilations) == 1


@pytest.mark.parametrize(("family", "shape", "width"), [("z_image", (16, 8, 8), 32), ("qwen_image", (16, 1, 8, 8), 32)])
def test_networks_that_compute_positions_for_themselves_are_one_graph_whose_code_is_stored(
    family: str, shape: tuple[int, ...], width: int, tmp_path: Any
) -> None:
    name, write = DENOISERS[family]
    write(tmp_path)
    model = asking.model_in(next(tmp_path.rglob(name)))
    network: Any = load_part(model, "denoiser", torch.float32)
    net, entry = model.family.net, Entry(text=asking.draw(5, width))
    row = net.row(model.config, Ask(asking.draw(*shape), 0.5, 0.4, 0.5, entry), net.prepare(model.config, entry, shape))
    asked: list[Any] = []
    hook = network.register_forward_pre_hook(lambda _, *given: asked.append(given), with_kwargs=True)

    def answered() -> Tensor:
        stacked = {name: one[None] for name, one in row.stacked.items()}
        found: Tensor = net.forward(network, stacked, row.common, {name: [one] for name, one in row.ragged.items()})[
            "out"
        ]
        return found

    answered()  # as runs under `auto`, which are eager first
    hook.remove()
    _turns.cache_clear()
    traced, _ = frozen._traced(network, *asked[0])
    assert frozen._structure(network)
    assert sum(one.nbytes for one in traced.constants.values() if isinstance(one, Tensor)) <= frozen.SMALL
    assert answered().isfinite().all(), "nothing of the tracing is kept"
