"""A random model of Stable Diffusion 1.5's size, and the same image by GraphFlow and by diffusers' own pipeline.

Both run on the same weights: the pipeline gets the networks that GraphFlow's pool holds, so one process holds them
once. Matrices have the scale of a fresh layer and norms are 1, so the network answers with numbers of the usual size.
"""

from __future__ import annotations

import copy
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import graphflow as gf

__all__ = ["CFG", "NAME", "PROMPTS", "SEED", "Pair", "default_folder", "make_model", "psnr", "write_random"]

HERE = Path(__file__).parent
NAME = "sd15_size.safetensors"
BLOCK = 1 << 24
PROMPTS = ("a lighthouse on a cliff above the sea, evening light", "blurry")
CFG, SEED = 5.0, 7


def default_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("graphflow") / "benchmarks" / "models"


def make_model(folder: Path) -> Path:
    """A models folder with the checkpoint, float16, 2.1 GB; it is written once."""
    path = folder / "checkpoints" / NAME
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_random(path, json.loads((HERE / "parity" / "shapes.json").read_text()))
    return folder


def write_random(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """A file of weights in float16, by name; it is there whole or not at all."""
    entries: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    numbers = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).repeat(2)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for number, (name, shape) in enumerate(shapes.items()):
            count = math.prod(shape)
            if len(shape) < 2:
                values = torch.full((count,), 0.0 if name.endswith("bias") else 1.0)
            else:
                scale = 0.02 if name.endswith("_embedding.weight") else 1 / math.sqrt(math.prod(shape[1:]))
                start = -7919 * number % BLOCK  # each weight begins elsewhere in the same numbers
                turned = numbers[start : start + BLOCK]
                values = (turned[:count] if count <= BLOCK else turned.repeat(-(-count // BLOCK))[:count]) * scale
            file.write(values.half().numpy().tobytes())
    part.rename(path)


def psnr(found: Tensor, wanted: Tensor) -> float:
    """In dB, over the range of `wanted`."""
    error = float(((found - wanted) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(float(wanted.max() - wanted.min()) ** 2 / error)


def in_torchs_form(network: torch.nn.Module) -> torch.nn.Module:
    """The network as diffusers builds it, on the same weights: without our form of its layers (see `products`)."""
    from graphflow_nodes.devices import products

    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    for layer in network.modules():  # its compiled forms are not copied
        shared |= {id(value): None for name, value in vars(layer).items() if name.startswith("graphflow ")}
    found = copy.deepcopy(network, shared)
    for layer in found.modules():
        if type(layer).__module__ == products.__name__:
            layer.__class__ = type(layer).__bases__[1]
    return found


class Pair:
    """One image by two programs, in one process, from the same weights. A context."""

    def __init__(self, folder: Path, pixels: int, steps: int, dtype: str = "float32", compile: str = "off") -> None:
        self.pixels, self.steps = pixels, steps
        self._stack = ExitStack()
        self.settings = gf.Settings(
            output_dir=folder / "output", models=(make_model(folder),), device="cpu", dtype=dtype, compile=compile
        )
        self.engine = self._stack.enter_context(gf.Engine(settings=self.settings, cache=gf.Cache(memory=0)))

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def graph(self) -> gf.Workflow:
        words = {
            key: {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": text}}
            for key, text in zip("67", PROMPTS, strict=True)
        }
        return gf.Workflow.from_json(
            {
                "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": NAME}},
                "5": {"class_type": "EmptyLatentImage", "inputs": {"width": self.pixels, "height": self.pixels}},
                **words,
                "3": {
                    "class_type": "KSampler",
                    "inputs": {
                        "model": ["4", 0],
                        "positive": ["6", 0],
                        "negative": ["7", 0],
                        "latent_image": ["5", 0],
                        "seed": SEED,
                        "steps": self.steps,
                        "cfg": CFG,
                        "scheduler": "normal",
                    },
                },
                "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
            }
        )

    def ours(self) -> tuple[Tensor, Any]:
        """(image [1, H, W, 3] in 0..1, the result of the run)"""
        result = self.engine.run(self.graph, targets=["8"])
        return next(iter(result["8"].outputs.values())), result

    def theirs(self) -> Callable[[], Tensor]:
        """A function that makes the same image with diffusers' pipeline in float32, on the networks of the pool."""
        from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
        from graphflow_nodes.devices.use import open_device
        from graphflow_nodes.families.kits.clip import VOCABULARY
        from graphflow_nodes.families.kits.clip_network import tokenizer_in
        from graphflow_nodes.families.opened import open_model
        from graphflow_nodes.samplers.noise import prepare_noise
        from graphflow_nodes.samplers.schedules import schedule

        opened = open_model(self.settings.models[0] / "checkpoints" / NAME, self.settings)
        model, clip, vae = opened.model, opened.clip, opened.vae
        assert model is not None and clip is not None and vae is not None
        device = open_device(gf.Settings(device="cpu", dtype="float32"))
        held = [
            in_torchs_form(self._stack.enter_context(device.use(handle, part, quiet=True)).module)
            for handle, part in ((model, "denoiser"), (clip, "text.l"), (vae, "vae"))
        ]
        untyped: Any = (StableDiffusionPipeline, EulerDiscreteScheduler)
        scheduler = untyped[1](
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",  # it begins with noise times sqrt(sigma^2 + 1), as KSampler does
        )
        pipeline = untyped[0](
            unet=held[0],
            text_encoder=held[1],
            vae=held[2],
            tokenizer=tokenizer_in(str(VOCABULARY)),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        sigmas = schedule("normal", self.steps, model.prediction)
        noise = prepare_noise((1, 4, self.pixels // 8, self.pixels // 8), SEED)

        def image() -> Tensor:
            found = pipeline(
                prompt=PROMPTS[0],
                negative_prompt=PROMPTS[1],
                guidance_scale=CFG,
                latents=noise.clone(),
                sigmas=sigmas.tolist(),  # with the zero at the end: diffusers makes a step less than it is given levels
                output_type="pt",
                height=self.pixels,
                width=self.pixels,
            )
            assert len(scheduler.timesteps) == self.steps, "the pipeline makes another number of passes"
            made: Tensor = found.images.movedim(1, -1).float()
            return made

        return image
