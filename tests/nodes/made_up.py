"""A made-up family of denoisers: a small network of its own, and files of weights for it."""

from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from graphflow_nodes.devices.pool import Pool
from graphflow_nodes.devices.use import Device
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.family import Family, Option, Part
from graphflow_nodes.model.handles import Model, WeightsSource
from graphflow_nodes.model.latent import LatentFormat
from graphflow_nodes.model.patch import CallPatch, WeightPatch
from graphflow_nodes.model.prediction import Epsilon
from graphflow_nodes.model.row import Row

CHANNELS, WIDTH = 3, 6


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.into = torch.nn.Conv2d(CHANNELS, 16, 3, padding=1)
        self.text = torch.nn.Linear(WIDTH, 16)
        self.block = torch.nn.Linear(16, 16)
        self.out = torch.nn.Conv2d(16, CHANNELS, 3, padding=1)

    def forward(self, x, time, text):
        h = self.into(x) + self.text(text.mean(1))[:, :, None, None] * (time / 1000).cos()[:, None, None, None]
        h = torch.tanh(self.block(h.movedim(1, -1))).movedim(-1, 1)
        return self.out(h)


def prepare(config, entry, shape):
    return entry.text


def row(config, ask, prepared):
    stacked = {"x": ask.x, "time": torch.tensor(ask.time), "text": prepared}
    stacked |= {f"residual.{name}": value for name, value in ask.residuals.items()}
    return Row(stacked, common=tuple(ask.x.shape[1:]))


def forward(module, stacked, common, ragged):
    dtype = module.into.weight.dtype
    out = module(stacked["x"].to(dtype), stacked["time"].to(dtype), stacked["text"].to(dtype))
    for name, value in stacked.items():
        if name.startswith("residual."):
            out = out + value
    return {"out": out}


def back(config, ask, answers):
    return answers["out"].float()


NETWORK = SimpleNamespace(prepare=prepare, row=row, forward=forward, back=back)


def family(**changes):
    stated = {
        "name": "made_up",
        "version": "1",
        "title": "Made Up",
        "recognise": lambda header: None,
        "parts": {"denoiser": Part(build="", layouts={}), "vae": Part(build="", layouts={}, dtype="float32")},
        "latent": lambda config: LatentFormat(channels=CHANNELS, factor=8, scale=2.0),
        "prediction": lambda config: Epsilon(),
        "takes": {"text": Option("text", 2, lambda config: WIDTH), "guidance": Option("number")},
        "needs": frozenset({"text"}),
    }
    made = Family(**{**stated, **changes})
    made.__dict__["net"] = NETWORK
    return made


FAMILY = family()


def model(digest="a", of=FAMILY, **changes):
    source = WeightsSource(path=f"/models/{digest}.safetensors", digest=digest, layout="own")
    return Model(of, (("denoiser", source), ("vae", source)), Config(), **changes)


class Files:
    """A loader of made-up files: the digest is the seed of the weights. It counts the weights it has read."""

    def __init__(self):
        self.read = []

    def build(self, part, config, name):
        with torch.device("meta"):
            return Net()

    def number_format(self, handle, part, dtype):
        stated = handle.family.parts[part].dtype or handle.computes_in
        return getattr(torch, stated) if stated else dtype

    def bytes_of(self, handle, part, module, dtype):
        dtype = self.number_format(handle, part, dtype)
        return {name: weight.numel() * dtype.itemsize for name, weight in module.named_parameters()}

    def held_weights(self, module):
        return module.state_dict()

    def load_part(self, handle, part, dtype, device="cpu", shared=None):
        torch.manual_seed(sum(map(ord, handle.source(part).digest + part)))
        module = Net()
        dtype = self.number_format(handle, part, dtype)
        patches = [patch for patch in handle.patches if isinstance(patch, WeightPatch)]
        state = {}
        for name, weight in module.state_dict().items():
            touching = [patch for patch in patches if name in patch.touches(part, [name])]
            if shared and name in shared and not touching:
                state[name] = shared[name]
                continue
            self.read.append(name)
            for patch in touching:
                weight = patch.apply(part, name, weight.float())
            state[name] = weight.to(dtype, copy=True)
        module.load_state_dict(state, assign=True)
        return module.to(device).eval().requires_grad_(False)


@dataclass(frozen=True)
class Added(WeightPatch):
    """Adds a number to one weight."""

    name: str
    number: float

    def identity(self):
        return ["added", self.name, self.number]

    def touches(self, part, parameters):
        return frozenset({self.name} & set(parameters))

    def apply(self, part, parameter, weight):
        return weight + self.number


@dataclass(frozen=True)
class Doubled(CallPatch):
    """Doubles what the block answers."""

    def identity(self):
        return ["doubled"]

    @contextmanager
    def around(self, module):
        hook = module.block.register_forward_hook(lambda module, inputs, output: output * 2)
        try:
            yield
        finally:
            hook.remove()


def device(files=None, budget=None, dtype=torch.float32, notify=None):
    return Device(Pool("cpu", files or Files(), budget), dtype, notify)


def entry(seed=0, tokens=5, **options):
    generator = torch.Generator().manual_seed(seed)
    return Entry(text=torch.randn(tokens, WIDTH, generator=generator), **options)


def latent(seed=0, count=1, height=8, width=8):
    return torch.randn(count, CHANNELS, height, width, generator=torch.Generator().manual_seed(seed))
