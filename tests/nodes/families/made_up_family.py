"""A family as one adds it: this module, and one line in the list of families. It names a network, its text encoder,
where their weights lie in a file, the unit of its latents and what its answers mean."""

import torch
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.family import Family, Found, Option, Part
from graphflow_nodes.model.latent import LatentFormat
from graphflow_nodes.model.prediction import Flow
from graphflow_nodes.model.row import Row
from safetensors.torch import save_file

import graphflow as gf
from tests.nodes.families import tiny

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


def write(models):
    """A checkpoint of it in a models folder, with a VAE."""
    torch.manual_seed(0)
    denoiser, words = Denoiser(16).state_dict(), torch.nn.Embedding(256, WIDTH)
    named = {"inside": "in", "outside": "out"}
    weights = {
        "odd." + ".".join((named.get(module, module), kind)): weight
        for (module, kind), weight in ((name.split("."), weight) for name, weight in denoiser.items())
    }
    vae = {name: weight for name, weight in tiny.tiny("sd1").weights.items() if name.startswith(tiny.VAE)}
    folder = models / "checkpoints"
    folder.mkdir(parents=True)
    save_file({**weights, "words.weight": words.weight.detach(), **vae}, folder / "odd.safetensors")
    return models


def workflow(**changes):
    made = gf.Workflow.from_json(
        {
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "odd.safetensors"}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "an apple"}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a pear!!"}},
            "3": {
                "class_type": "KSampler",
                "inputs": {
                    "model": ["4", 0],
                    "positive": ["6", 0],
                    "negative": ["7", 0],
                    "latent_image": ["5", 0],
                    "steps": 4,
                    "cfg": 3.0,
                    "scheduler": "simple",
                },
            },
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        }
    )
    for where, value in changes.items():
        made = made.set(where.replace("__", "."), value)
    return made
