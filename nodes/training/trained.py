"""TRAINED_WEIGHTS on a wire: whole weights of networks, plain values that the cache stores; and handles that have them.

`{"weights": {PART: {PARAMETER: tensor}}, "prediction": {...} or None, "unit": {...} or None}`. `prediction` is what the
denoiser learnt to predict, `unit` what a model states about the latents of a trained VAE (`scale`, `preview`,
`preview_bias`); None: as the model states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from graphflow import GraphFlowError, Problem, Settings

from ..files.made_once import file_once
from ..model.handles import Clip, Model, Vae, WeightsHandle
from ..patches.trained import TrainedWeights

__all__ = ["by_part", "stored_weights", "with_prediction", "with_weights"]

KINDS = {"epsilon": "epsilon", "v_prediction": "v", "flow": "flow"}
"""What a node calls a prediction, and what our configs call it."""


def by_part(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """`PART/PARAMETER` -> the weights of each part."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        part, _, parameter = name.partition("/")
        found.setdefault(part, {})[parameter] = weight
    return found


def with_prediction(model: Model, prediction: str) -> Model:
    """The model as one that predicts `epsilon`, `v_prediction` or `flow`; any other word leaves it as it is.

    Raises a Problem where the family has one prediction only.
    """
    if prediction not in KINDS:
        return model
    if "prediction" not in model.config:
        message = f"{model.family.title} has one prediction, and is trained for that"
        hint = "set prediction to as the model"
        raise GraphFlowError([Problem("wrong_prediction", message, input="prediction", hint=hint)])
    return replace(model, config=model.config | {"prediction": {"kind": KINDS[prediction]}}, sampling=None)


def stored_weights(trained: Mapping[str, Any], settings: Settings) -> TrainedWeights:
    """As a file in the folder for temporary files, under the name of its digest."""
    tensors = {
        f"{part}/{name}": weight.contiguous()
        for part, weights in sorted(trained["weights"].items())
        for name, weight in sorted(weights.items())
    }
    digest = sha256()
    for name, weight in tensors.items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(memoryview(weight.flatten().numpy()).cast("B"))
    path = settings.temp_dir / "trained" / f"{digest.hexdigest()[:32]}.safetensors"
    file_once(path, lambda new: save_file(tensors, new))
    return TrainedWeights(str(path.resolve()), digest.hexdigest())


def with_weights(
    trained: Mapping[str, Any],
    patch: TrainedWeights,
    model: Model | None,
    clip: Clip | None,
    vae: Vae | None,
) -> tuple[Model | None, Clip | None, Vae | None]:
    """The handles with those of the weights that are theirs. Raises a Problem where the weights belong to none."""
    parts = set(trained["weights"])
    handles = [handle for handle in (model, clip, vae) if handle is not None]
    if not any(part in parts for handle in handles for part, _ in handle.sources):
        inputs = {"denoiser": "model", "vae": "vae"}
        wanted = sorted({inputs.get(part, "clip") for part in parts})
        message = f"these are weights of {', '.join(sorted(parts))}, and nothing that has such a part is linked"
        raise GraphFlowError([Problem("wrong_weights", message, input=wanted[0], hint=f"link {' and '.join(wanted)}")])
    for handle in handles:
        _check_names(trained, handle)
    if model is not None:
        model = _patched(model, patch, parts)
        if trained["prediction"] is not None and "denoiser" in parts:
            model = replace(model, config=model.config | {"prediction": trained["prediction"]}, sampling=None)
        if trained["unit"] is not None and "vae" in parts and "latent" in model.config:
            model = replace(model, config=model.config | {"latent": model.config.latent | trained["unit"]})
    return (
        model,
        _patched(clip, patch, parts) if clip is not None else None,
        _patched(vae, patch, parts) if vae is not None else None,
    )


def _patched(handle: Any, patch: TrainedWeights, parts: set[str]) -> Any:
    return handle.with_patch(patch) if any(part in parts for part, _ in handle.sources) else handle


def _check_names(trained: Mapping[str, Any], handle: WeightsHandle) -> None:
    from ..files.load import build

    for part, _ in handle.sources:
        weights = trained["weights"].get(part)
        if weights is None:
            continue
        own = {
            name: weight.shape
            for name, weight in build(handle.family.parts[part], handle.config, part).named_parameters()
        }
        wrong = [name for name, weight in weights.items() if name not in own or own[name] != weight.shape]
        if wrong:
            message = f"{len(wrong)} of {len(weights)} trained weights of {part} do not fit, {wrong[0]} for one"
            hint = "use them with the model that they were trained from, or a copy of it"
            raise GraphFlowError([Problem("wrong_weights", message, input="trained", hint=hint)])
