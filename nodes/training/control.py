r"""ControlNets in training (arXiv 2302.05543): how one begins, and its loss.

A ControlNet begins as a copy of the half of the U-Net that goes down; what its answers pass on their way into the U-Net
are convolutions of zeros, so that the first step changes nothing. The U-Net stays as it is.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from graphflow import GraphFlowError, Problem, Settings

from ..families.controlnet import network
from ..families.controlnet.hint import sized_hint
from ..families.controls import open_control
from ..families.kits.unet import PORTS
from ..files.load import WeightReader
from ..files.made_once import folder_once
from ..model.config import Config
from ..model.handles import ControlNet, Model
from .examples import Example, TrainingSet
from .new_weights import new_entries
from .objective import Objective
from .options import LossOptions

__all__ = ["ControlObjective", "check_hints", "control_config", "new_control", "stored_control", "write_control"]

_KEPT = (
    "in_channels",
    "layers_per_block",
    "block_out_channels",
    "cross_attention_dim",
    "attention_head_dim",
    "norm_num_groups",
    "use_linear_projection",
    "transformer_layers_per_block",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "class_embed_type",
    "act_fn",
    "norm_eps",
    "flip_sin_to_cos",
    "freq_shift",
)
HINT_CHANNELS = (16, 32, 96, 256)
_ZEROS = ("controlnet_down_blocks.", "controlnet_mid_block.", "controlnet_cond_embedding.conv_out.")


def control_config(model: Model, shape: str) -> Config:
    """The arguments of diffusers' ControlNetModel. `shape`: `copy` has all blocks of the half that goes down,
    `slim` its residual blocks alone, as the small ControlNets of SDXL.

    Raises a Problem where the model is not a U-Net.
    """
    if model.family.ports.residuals != PORTS.residuals:
        message = f"ControlNets are trained for Stable Diffusion 1.x, 2.x and XL, the model is {model.family.title}"
        raise GraphFlowError([Problem("not_trainable", message, input="model")])
    denoiser, slim = model.config.denoiser, shape == "slim"
    found = {name: denoiser[name] for name in _KEPT if denoiser.get(name) is not None}
    kinds = tuple(kind.replace("CrossAttn", "") if slim else kind for kind in denoiser.down_block_types)
    middle = "UNetMidBlock2D" if slim else denoiser.get("mid_block_type") or "UNetMidBlock2DCrossAttn"
    hint = HINT_CHANNELS if min(denoiser.block_out_channels) >= 128 else tuple(size // 4 for size in HINT_CHANNELS)
    stated = {"down_block_types": kinds, "mid_block_type": middle, "conditioning_embedding_out_channels": hint}
    return Config(found, conditioning_channels=3, **stated)


def new_control(model: Model, config: Config, seed: int) -> torch.nn.Module:
    """A ControlNet at its beginning, float32: weights of the U-Net with its patches where both have one of a name and a
    shape, zeros at the ways into the U-Net, new ones for the hint."""
    module = network.build(config)
    reader = WeightReader(model, "denoiser")
    state: dict[str, Tensor] = {}
    for entry in new_entries(module, seed, "control"):
        if entry.name.startswith(_ZEROS):
            state[entry.name] = torch.zeros(entry.shape)
        elif reader.has(entry.name) and reader.shapes[entry.name] == entry.shape:
            state[entry.name] = reader.read(entry.name).clone()
        else:
            state[entry.name] = entry.make()
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(True)


def check_hints(data: TrainingSet, input: str = "training_set") -> None:
    """Raises a Problem where an example has no image to be steered by."""
    lacking = [one.name for one in data.examples if one.hint is None]
    if lacking:
        message = f"{len(lacking)} of {len(data.examples)} examples have no hint, {lacking[0]} for one"
        hint = "set hints of TrainingFolder to canny or folder, or link an image to hint of TrainingExample"
        raise GraphFlowError([Problem("missing_hints", message, input=input, hint=hint)])


def write_control(control: Mapping[str, Any], target: Path, metadata: Mapping[str, str]) -> None:
    """Fill a folder in diffusers' layout. `control`: `config` and `weights`, as they are on a wire."""
    stated = {"_class_name": "ControlNetModel", **control["config"]}
    (target / "config.json").write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
    tensors = {name: weight.contiguous() for name, weight in control["weights"].items()}
    save_file(tensors, target / "diffusion_pytorch_model.safetensors", {"format": "pt", **metadata})


def stored_control(control: Mapping[str, Any], settings: Settings) -> ControlNet:
    """As a folder of that layout among the temporary files, under the digest of its content, and its handle."""
    digest = sha256(repr(control["config"]).encode())
    for name, weight in sorted(control["weights"].items()):
        digest.update(name.encode())
        digest.update(memoryview(weight.contiguous().flatten().numpy()).cast("B"))
    folder = settings.temp_dir / "controlnet" / digest.hexdigest()[:32]
    return open_control(folder_once(folder, lambda new: write_control(control, new, {})), settings)


class ControlObjective(Objective):
    """The loss of a U-Net that is steered by a network in training. The gradients are those of the ControlNet."""

    def __init__(
        self,
        model: Model,
        module: torch.nn.Module,
        data: TrainingSet,
        options: LossOptions,
        seed: int,
        device: Any,
        control: torch.nn.Module,
    ) -> None:
        super().__init__(model, module, data, options, seed, device)
        self._control, self._unsteered = control, self._forward
        self._forward = self._steered
        self._asked = inspect.unwrap(network.forward)  # without inference mode
        self._hints: list[Tensor] = []

    def _losses(self, places: Sequence[tuple[Example, tuple[Any, ...]]], options: LossOptions) -> Tensor:
        self._hints = [self._hint(example) for example, _ in places]
        return super()._losses(places, options)

    def _hint(self, example: Example) -> Tensor:
        assert example.hint is not None
        sides = tuple(side * self._model.latent.factor for side in example.latent.shape[-2:])
        return sized_hint(example.hint[None], sides, 3)

    def _steered(self, module: Any, stacked: dict[str, Tensor], common: Any, ragged: Any) -> dict[str, Tensor]:
        hint = torch.stack(self._hints).to(self._device)
        found = self._asked(self._control, {**stacked, "hint": hint}, ())
        residuals = {f"residual.{name}": answer for name, answer in found.items()}
        answers: dict[str, Tensor] = self._unsteered(module, {**stacked, **residuals}, common, ragged)
        return answers
