"""A family as one adds it: this module, and one line in the list of families. It names a network, its text encoder,
where their weights lie in a file, the unit of its latents and what its answers mean."""

import torch
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Entry, Row
from graphflow_nodes.model.family import Family, Found, Option, Part
from graphflow_nodes.model.latent import LatentFormat
from graphflow_nodes.model.prediction import Flow

WIDTH = 8


class Denoiser(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inside = torch.nn.Conv2d(4, width, 3, padding=1)
        self.q, self.k = torch.nn.Linear(width, width), torch.nn.Linear(WIDTH, width)
        self.outside = torch.nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x, time, text):
        h = self.inside(x) * (1 + time)[:, None, None, None]
        q, k = self.q(h.flatten(2).mT), self.k(text)
        seen = torch.softmax(q @ k.mT, dim=-1) @ k
        return self.outside(torch.tanh(h + seen.mT.reshape(h.shape)))


def build_denoiser(config):
    with torch.device("meta"):
        return Denoiser(config.width)


def build_text(config):
    with torch.device("meta"):
        return torch.nn.Embedding(256, WIDTH)


def recognise(header):
    shape = header.shape("odd.in.weight")
    if not shape:
        return None
    parts = {"denoiser": ("own", "odd."), "text.bytes": ("own", "words.")}
    return Found(Config(denoiser={"width": shape[0]}, **{"text.bytes": {}}), parts, "with bytes")


def encode(clip, encoders, prompt, options):
    letters = torch.tensor(list(prompt.encode()) or [0])
    return [Entry(text=encoders["text.bytes"](letters).float().cpu())]


def prepare(config, entry, shape):
    return entry.text


def row(config, ask, prepared):
    return Row({"x": ask.x, "time": torch.tensor(ask.time), "text": prepared})


def forward(module, stacked, common, ragged):
    dtype = module.inside.weight.dtype
    return {"out": module(*(stacked[name].to(dtype) for name in ("x", "time", "text")))}


def back(config, ask, answers):
    return answers["out"].float()


FAMILY = Family(
    name="odd",
    version="1",
    title="Odd",
    recognise=recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}:build_denoiser",
            layouts={"own": lambda config: {"inside": "in", "outside": "out", "q": "q", "k": "k"}},
        ),
        "text.bytes": Part(build=f"{__name__}:build_text", layouts={"own": lambda config: {"": ""}}),
    },
    latent=lambda config: LatentFormat(channels=4, factor=8, scale=0.5, shift=0.1),
    prediction=lambda config: Flow(3.0),
    network=__name__,
    text=__name__,
    takes={"text": Option("text", rank=2, width=lambda config: WIDTH)},
    needs=frozenset({"text"}),
)
