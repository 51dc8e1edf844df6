"""The state of a training as a safetensors file: its tensors by `weights/NAME`, `averages/NAME` and
`optimiser/NUMBER/KEY`, and as JSON in its metadata what is not a tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from graphflow import GraphFlowError, Problem, Settings

from ..files.made_once import file_once

__all__ = ["FOLDER", "keep_state_file", "read_state", "state_bytes"]

FOLDER = "training_states"
"""In the output folder."""
KEY = "graphflow_training_state"


def state_bytes(state: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a file, equal for equal states."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {key: state[key] for key in ("step", "training", "validation", "scaler")}
    plain["optimiser"] = {}
    for kind in ("weights", "averages"):
        tensors |= {f"{kind}/{name}": weight for name, weight in state[kind].items()}
    for number, values in state["optimiser"].items():
        held = {key: one for key, one in values.items() if not isinstance(one, Tensor)}
        plain["optimiser"][str(number)] = held
        tensors |= {f"optimiser/{number}/{key}": one for key, one in values.items() if isinstance(one, Tensor)}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return save(whole, {**(metadata or {}), KEY: json.dumps(plain)})


def read_state(path: Path) -> dict[str, Any]:
    """Raises a Problem where the file does not hold a state, or is damaged."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        message = f"{path.name} cannot be read: {error}"
        raise GraphFlowError([Problem("damaged_file", message, input="file", hint="it is not whole")]) from None
    if text is None:
        message = f"{path.name} does not hold the state of a training"
        hint = "SaveTrainingState writes such files, and so does a training whose loss is not a number"
        raise GraphFlowError([Problem("not_a_state", message, input="file", hint=hint)])
    try:
        return _from_file(json.loads(text), tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path.name} holds a state that cannot be read: {error!r}"
        raise GraphFlowError([Problem("damaged_file", message, input="file")]) from None


def _from_file(plain: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    optimiser = {int(number): dict(values) for number, values in plain["optimiser"].items()}
    found: dict[str, Any] = {**plain, "weights": {}, "averages": {}, "optimiser": optimiser}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimiser":
            number, _, key = rest.partition("/")
            optimiser[int(number)][key] = tensor
        else:
            found[kind][rest] = tensor
    return found


def keep_state_file(state: Mapping[str, Any], settings: Settings) -> Path:
    """A file of the output folder that is named by its step and its content, so that the same state is kept once."""
    data = state_bytes(state)
    name = f"step_{state['step']}_{sha256(data).hexdigest()[:12]}.safetensors"
    return file_once(settings.output_dir / FOLDER / name, lambda new: new.write_bytes(data))
