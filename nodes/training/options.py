"""The options of a training as values; they are checked here, and named as diffusers' training scripts name them.
Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ALGORITHMS",
    "BETA2",
    "LoopOptions",
    "LossOptions",
    "OPTIMISERS",
    "OPTIMISER_PACKAGES",
    "PRECISIONS",
    "RATES",
    "TIMES",
    "WEIGHTINGS",
]

ALGORITHMS = ("LoRA", "DoRA", "LoKr")
"""What is trained beside a layer; `terms.py` has the formulas."""
OPTIMISERS = ("AdamW", "Adam", "Adafactor", "Lion", "RMSprop", "SGD", "Prodigy", "AdamW8bit")
OPTIMISER_PACKAGES = {"Prodigy": "prodigyopt", "AdamW8bit": "bitsandbytes"}
"""Packages that are not installed with this one."""
RATES = ("constant", "linear", "cosine", "warmup_stable_decay")
"""The course of the learning rate; `warmup_stable_decay` is constant, and falls at the end (arXiv 2404.06395)."""
WEIGHTINGS = ("none", "v_prediction")
"""How noise levels count: alike, or as if a model of noise were asked for the velocity (arXiv 2202.00512)."""
TIMES = ("uniform", "logit_normal")
"""How noise levels are drawn: evenly, or by the logistic function of a normal number, which are mostly middle ones
(arXiv 2403.03206, section 3.1)."""
PRECISIONS = ("auto", "no", "bf16", "fp16")
"""Of matrix products. In fp16 small gradients would be zero, so the loss is scaled."""


BETA2 = 0.999
"""Of Adam and AdamW."""


@dataclass(frozen=True, slots=True)
class LossOptions:
    """What is asked of the model, and how an answer counts."""

    timesteps: str = "uniform"
    snr_gamma: float = 0.0
    """Of min-SNR weights (arXiv 2303.09556); 0: all levels count alike."""
    noise_offset: float = 0.0
    """How much noise all pixels of a channel share (https://www.crosslabs.org/blog/diffusion-with-offset-noise)."""
    caption_dropout: float = 0.0
    """How often an image is shown without its caption."""
    prior_loss_weight: float = 1.0
    """How much images of the class count, where there are any (arXiv 2208.12242)."""
    weighting: str = "none"
    max_weight: float = 0.0
    """Of `weighting`; 0: no bound."""
    min_snr_weight: float = 0.0
    """The least weight that `snr_gamma` gives a level."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How weights are changed."""

    steps: int
    """To make, after those of the state that it begins with."""
    batch_size: int = 1
    accumulation: int = 1
    """Batches of a step."""
    learning_rate: float = 1e-4
    schedule: str = "constant"
    warmup: int = 0
    optimiser: str = "AdamW"
    weight_decay: float = 0.01
    beta2: float = BETA2
    """Of Adam and AdamW: how slowly the mean of squared gradients follows."""
    max_grad_norm: float = 1.0
    """0: gradients are not clipped."""
    ema_decay: float = 0.0
    """0: no average of the weights is kept."""
    seed: int = 0
    validate_every: int = 0
    """Steps; 0: never."""
