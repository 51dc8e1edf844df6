"""Nodes that state numbers of a MODEL: the deviation of its noise, the number format in which it computes. Nothing is
loaded."""

from dataclasses import replace
from typing import Annotated

from graphflow import Choice, GraphFlowError, Help, Problem, Range, node

from ..model.handles import FORMATS
from ..model.wires import ModelWire


@node("ModelNoiseScale", category="advanced/model", version="1")
def model_noise_scale(
    model: ModelWire,
    noise_scale: Annotated[float, Range(0.0, 64.0, 0.01), Help("the deviation of the noise, 1 for most models")] = 1.0,
) -> ModelWire:
    """State that a flow model was trained with noise of another deviation c: x = (1 - sigma) x0 + sigma c n.

    It is the noise from which a sampler starts, and that over what a noise mask keeps. Noise that a sampler adds on its
    way has a factor of its own (`s_noise`).
    """
    from ..model.prediction import Flow, FluxFlow

    prediction = model.prediction
    if not isinstance(prediction, Flow | FluxFlow):
        raise GraphFlowError(
            [
                Problem(
                    "not_a_flow",
                    f"only flow models have a noise scale: {model.family.title} predicts {type(prediction).__name__}",
                    input="model",
                    hint="leave the node out",
                )
            ]
        )
    return replace(model, sampling=replace(prediction, noise_scale=noise_scale))


@node("ModelComputeDtype", category="advanced/debug/model", version="1")
def model_compute_dtype(
    model: ModelWire,
    dtype: Annotated[str, Choice(tuple(FORMATS)), Help("default: what `--dtype` states")] = "default",
) -> ModelWire:
    """State the number format in which a denoiser computes. Its weights are held in it, too; those that stay packed in
    8 bits or less are unpacked to it."""
    return model.computing(dtype)
