"""The inputs that trainers share, under the names of diffusers' training scripts, and the wires between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Choice, Help, Range, Seed, Wire

from ..training.options import BETA2, OPTIMISERS, PRECISIONS, RATES, TIMES, LoopOptions

if TYPE_CHECKING:
    from ..training.loop import Trained

__all__ = [
    "Accumulation",
    "AdamBeta2",
    "BatchSize",
    "CaptionDropout",
    "Checkpointing",
    "Decay",
    "EmaDecay",
    "GradNorm",
    "LearningRate",
    "LossesWire",
    "NoiseOffset",
    "Optimizer",
    "Precision",
    "Scheduler",
    "SnrGamma",
    "StateWire",
    "Steps",
    "Timesteps",
    "TrainedWire",
    "TrainingSeed",
    "ValidateEvery",
    "Warmup",
    "loop_options",
    "losses_on_wire",
]

LossesWire = Annotated[dict[str, Any], Wire("LOSSES")]
StateWire = Annotated[dict[str, Any], Wire("TRAINING_STATE")]
TrainedWire = Annotated[dict[str, Any], Wire("TRAINED_WEIGHTS")]
MAX_SEED = 2**64 - 1
Steps = Annotated[int, Range(0, 100_000_000), Help("to make, after those of `state`; 0: what `state` has learnt")]
BatchSize = Annotated[int, Range(1, 4096), Help("images of a batch, all from one bucket")]
LearningRate = Annotated[float, Range(0.0, 10.0, 1e-6)]
TrainingSeed = Annotated[int, Range(0, MAX_SEED), Seed()]
Scheduler = Annotated[str, Choice(RATES)]
Warmup = Annotated[int, Range(0, 1_000_000)]
Optimizer = Annotated[str, Choice(OPTIMISERS)]
AdamBeta2 = Annotated[float, Range(0.0, 0.99999, 0.0001), Help("of Adam and AdamW")]
Decay = Annotated[float, Range(0.0, 10.0, 0.001)]
Accumulation = Annotated[int, Range(1, 1024), Help("batches of a step")]
GradNorm = Annotated[float, Range(0.0, 1000.0, 0.1), Help("longer gradients are shortened; 0: never")]
Timesteps = Annotated[str, Choice(TIMES)]
SnrGamma = Annotated[float, Range(0.0, 100.0, 0.1), Help("min-SNR weights, 5 is usual; 0: none")]
NoiseOffset = Annotated[float, Range(0.0, 1.0, 0.01)]
CaptionDropout = Annotated[float, Range(0.0, 1.0, 0.01), Help("how often an image is shown without its caption")]
EmaDecay = Annotated[float, Range(0.0, 0.99999, 0.0001), Help("of an average of the weights; 0: none")]
Precision = Annotated[str, Choice(PRECISIONS), Help("auto: bf16 on a device that computes in it")]
Checkpointing = Annotated[bool, Help("less memory, a third more time")]
ValidateEvery = Annotated[int, Range(0, 1_000_000), Help("steps; 0: never")]


def loop_options(inputs: Mapping[str, Any]) -> LoopOptions:
    """The options of the loop, by the names of a trainer's inputs: `loop_options(locals())`."""
    return LoopOptions(
        steps=inputs["steps"],
        batch_size=inputs["batch_size"],
        accumulation=inputs["gradient_accumulation_steps"],
        learning_rate=inputs["learning_rate"],
        schedule=inputs["lr_scheduler"],
        warmup=inputs["lr_warmup_steps"],
        optimiser=inputs["optimizer"],
        weight_decay=inputs["weight_decay"],
        beta2=inputs.get("adam_beta2", BETA2),
        max_grad_norm=inputs["max_grad_norm"],
        ema_decay=inputs["ema_decay"],
        seed=inputs["seed"],
        validate_every=inputs["validate_every"],
    )


def losses_on_wire(found: Trained) -> dict[str, Any]:
    """What PlotLosses draws."""
    return {"training": found.losses.training, "validation": [list(pair) for pair in found.losses.validation]}
