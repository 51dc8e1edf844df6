"""A question to a network of a family, from a file, without a sampler."""

import torch
from graphflow_nodes.families import recognise
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask
from graphflow_nodes.model.handles import Model, WeightsSource


def model_in(path):
    family, found = recognise(read_header(path))
    return Model(family, (("denoiser", WeightsSource(str(path), "", *found.parts["denoiser"])),), found.config)


def draw(*shape, seed=0):
    """Random numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def answer(model, x, sigma, entry, to=0.0):
    """The answer [C, h, w] at a level, as the prediction expects it."""
    net = model.family.net
    time = float(model.prediction.time(torch.tensor(sigma)))
    ask = Ask(x, sigma, to, time, entry)
    row = net.row(model.config, ask, net.prepare(model.config, entry, tuple(x.shape)))
    stacked = {name: torch.stack([one, one]) for name, one in row.stacked.items()}
    ragged = {name: [one, one] for name, one in row.ragged.items()}
    answers = net.forward(load_part(model, "denoiser", torch.float32), stacked, row.common, ragged)
    found = [net.back(model.config, ask, {name: one[n] for name, one in answers.items()}) for n in range(2)]
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
    return found[0]
