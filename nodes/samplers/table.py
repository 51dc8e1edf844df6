"""Samplers: schedules, forward noise, steppers and the loop around them; of the model they know a function."""

from .ddpm import DDPM
from .dpm import DPM2, DPM2Ancestral
from .dpmpp import DPMpp2M, DPMpp2SAncestral
from .euler import Euler, EulerAncestral, Heun
from .inpaint import within_mask
from .lcm import LCM
from .loop import sample
from .multistep import IPNDM, LMS, GradientEstimation, RESMultistep
from .noise import add_noise, noised_start, prepare_noise, q_sample
from .schedules import SCHEDULES, schedule
from .sde import DPMpp2MSDE, DPMpp3MSDE, DPMppSDE
from .stepper import Denoise, State, Stepper
from .unipc import UniPC

SAMPLERS: dict[str, Stepper] = {
    "euler": Euler(),
    "euler_ancestral": EulerAncestral(),
    "heun": Heun(),
    "dpm_2": DPM2(),
    "dpm_2_ancestral": DPM2Ancestral(),
    "lms": LMS(),
    "dpmpp_2s_ancestral": DPMpp2SAncestral(),
    "dpmpp_sde": DPMppSDE(),
    "dpmpp_2m": DPMpp2M(),
    "dpmpp_2m_sde": DPMpp2MSDE(),
    "dpmpp_2m_sde_heun": DPMpp2MSDE(heun=True),
    "dpmpp_3m_sde": DPMpp3MSDE(),
    "ddpm": DDPM(),
    "lcm": LCM(),
    "ipndm": IPNDM(),
    "res_multistep": RESMultistep(),
    "gradient_estimation": GradientEstimation(),
    "ddim": Euler(),
    "uni_pc": UniPC(),
    "uni_pc_bh2": UniPC(bh2=True),
}

__all__ = [
    "SAMPLERS", "SCHEDULES", "Denoise", "State", "Stepper",
    "add_noise", "noised_start", "prepare_noise", "q_sample", "sample", "schedule", "within_mask",
]  # fmt: skip
