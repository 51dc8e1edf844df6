"""One question to the denoiser of a file, through the functions of its family."""

import torch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask

import graphflow as gf


def draw(*shape, seed=0):
    """Random numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def answer(file, x, entry, sigma=0.6, to=0.4):
    """The answer to a latent `x` at a noise level, as the prediction expects it; float32, the shape of `x`."""
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        model = open_model(file, engine.settings).model
    network, module = model.family.net, load_part(model, "denoiser", torch.float32)
    ask = Ask(x, sigma, to, model.prediction.time(torch.tensor(sigma)).item(), entry)
    row = network.row(model.config, ask, network.prepare(model.config, entry, tuple(x.shape)))
    stacked = {name: one[None] for name, one in row.stacked.items()}
    answers = network.forward(module, stacked, row.common, {name: [one] for name, one in row.ragged.items()})
    return network.back(model.config, ask, {name: one[0] for name, one in answers.items()})
