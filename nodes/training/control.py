r"""ControlNets in training (arXiv 2302.05543): how one begins, and its loss.

A ControlNet begins as a copy of a part of the model that it steers; what its answers pass on their way into the model
are zeros (see families/new_controls.py), so that the first step changes nothing. The model stays as it is.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from graphflow import GraphFlowError, Problem, Settings

from ..families.controls import open_control
from ..families.new_controls import NewControl
from ..files.load import WeightReader, build
from ..files.made_once import folder_once
from ..model.entry import Ask, Control, Entry
from ..model.handles import ControlNet, Model
from ..model.row import Row
from .examples import Example, TrainingSet
from .new_weights import new_entries
from .objective import Objective
from .options import LossOptions

__all__ = ["ControlObjective", "check_hints", "new_control", "stored_control", "write_control"]


def new_control(model: Model, new: NewControl, seed: int) -> torch.nn.Module:
    """A ControlNet at its beginning, float32: weights of the model with its patches where both have one of a name and a
    shape, zeros at the ways into the model, new ones for a hint in pixels."""
    module = build(new.family.parts["denoiser"], new.config, "denoiser")
    reader = WeightReader(model, "denoiser")
    fresh = {entry.name: entry for entry in new_entries(module, seed, "control")}
    state: dict[str, Tensor] = {}
    for name, empty in module.state_dict().items():
        if name.startswith(new.zeros):
            state[name] = torch.zeros(empty.shape)
        elif reader.has(name) and reader.shapes[name] == tuple(empty.shape):
            state[name] = reader.read(name).clone()
        else:
            state[name] = fresh[name].make()
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(True)


def check_hints(data: TrainingSet, new: NewControl, input: str = "training_set") -> None:
    """Raises a Problem where an example has no image to be steered by, or not its latent where that is seen."""
    lacking = [one.name for one in data.examples if one.hint is None]
    if lacking:
        message = f"{len(lacking)} of {len(data.examples)} examples have no hint, {lacking[0]} for one"
        hint = "set hints of TrainingFolder to canny or folder, or link an image to hint of TrainingExample"
        raise GraphFlowError([Problem("missing_hints", message, input=input, hint=hint)])
    lacking = [one.name for one in data.examples if new.sees_latent and one.hint_latent is None]
    if lacking:
        message = (
            f"a {new.family.title} sees the latent of a hint, which {len(lacking)} examples lack, {lacking[0]} for one"
        )
        hint = "set encode_hints of TrainingFolder, or link VAEEncode of the hint to hint_latent of TrainingExample"
        raise GraphFlowError([Problem("missing_hints", message, input=input, hint=hint)])


def write_control(
    control: Mapping[str, Any], target: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Fill a folder in diffusers' layout. `control`: `class`, `config` and `weights`, as they are on a wire."""
    stated = {"_class_name": control["class"], **control["config"]}
    (target / "config.json").write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
    tensors = {
        name: (weight.to(dtype) if weight.is_floating_point() else weight).contiguous()
        for name, weight in control["weights"].items()
    }
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
    """The loss of a model that is steered by a network in training. The gradients are those of the ControlNet."""

    def __init__(
        self,
        model: Model,
        module: torch.nn.Module,
        data: TrainingSet,
        options: LossOptions,
        seed: int,
        device: Any,
        control: torch.nn.Module,
        new: NewControl,
    ) -> None:
        super().__init__(model, module, data, options, seed, device)
        self._control, self._net, self._config = control, new.family.net, new.config
        self._handle = ControlNet(new.family, (), new.config)
        self._asked = inspect.unwrap(new.family.net.forward)  # without inference mode

    def _answers(self, asks: Sequence[Ask], rows: Sequence[Row], examples: Sequence[Example]) -> Mapping[str, Tensor]:
        asked = [self._row_of(ask, example) for ask, example in zip(asks, examples, strict=True)]
        stacked, ragged = self._on_device(asked)
        found = self._asked(self._control, stacked, asked[0].common, ragged)
        stacked, ragged = self._on_device(rows)
        stacked |= {f"residual.{name}": answer for name, answer in found.items()}
        answers: Mapping[str, Tensor] = self._forward(self._module, stacked, rows[0].common, ragged)
        return answers

    def _row_of(self, ask: Ask, example: Example) -> Row:
        """The question to the ControlNet."""
        assert example.hint is not None
        latent = None if example.hint_latent is None else example.hint_latent[None]
        entry: Entry = replace(ask.entry, controls=(Control(self._handle, example.hint[None], latent=latent),))
        prepared = self._net.prepare(self._config, entry, tuple(ask.x.shape))
        return self._net.row(self._config, ask, prepared)
