"""Samplers: schedules, forward noise, steppers and the loop around them, in torch alone."""

from .ddpm import DDPM
from .dpmpp import DPMpp2M
from .euler import Euler, EulerAncestral, Heun
from .inpaint import within_mask
from .loop import sample
from .noise import add_noise, noised_start, prepare_noise, q_sample
from .schedules import SCHEDULES, ModelSampling, schedule
from .stepper import Denoise, State, Stepper

SAMPLERS: dict[str, Stepper] = {
    "euler": Euler(),
    "euler_ancestral": EulerAncestral(),
    "ddim": Euler(),
    "ddpm": DDPM(),
    "dpmpp_2m": DPMpp2M(),
    "heun": Heun(),
}

__all__ = [
    "SAMPLERS", "SCHEDULES", "Denoise", "ModelSampling", "State", "Stepper",
    "add_noise", "noised_start", "prepare_noise", "q_sample", "sample", "schedule", "within_mask",
]  # fmt: skip
