"""Every sampler by its name. Of the model, samplers know a function (`Denoise`) and a prediction."""

from __future__ import annotations

from .cfgpp import DPMpp2MCFGpp, DPMpp2SAncestralCFGpp, EulerAncestralCFGpp, EulerCFGpp, EulerPP
from .ddpm import DDPM
from .deis import DEIS
from .dpm import DPM2, DPM2Ancestral
from .dpm_solver import DPMAdaptive, DPMFast
from .dpmpp import DPMpp2M, DPMpp2SAncestral
from .er_sde import ERSDE
from .euler import DDIM, Euler, EulerAncestral, Heun, HeunPP2
from .gradient import GradientEstimation
from .lcm import LCM, LCMUpscale
from .loop import sample
from .multistep import IPNDM, IPNDMV, LMS
from .noise import add_noise, noised_start, prepare_noise, q_sample
from .res import RESMultistep, RESMultistepAncestral
from .sa_solver import SASolver
from .schedules import SCHEDULES, schedule
from .sde import DPMpp2MSDE, DPMpp3MSDE, DPMppSDE
from .seeds import SEEDS2, SEEDS3, ExpHeun
from .stepper import Denoise, State, Stepper
from .unipc import UniPC

__all__ = [
    "OTHERS",
    "SAMPLERS",
    "SCHEDULES",
    "Denoise",
    "State",
    "Stepper",
    "add_noise",
    "noised_start",
    "prepare_noise",
    "q_sample",
    "sample",
    "schedule",
]

SAMPLERS: dict[str, Stepper] = {
    "euler": Euler(),
    "euler_cfg_pp": EulerCFGpp(),
    "euler_ancestral": EulerAncestral(),
    "euler_ancestral_cfg_pp": EulerAncestralCFGpp(),
    "heun": Heun(),
    "heunpp2": HeunPP2(),
    "exp_heun_2_x0": ExpHeun(),
    "exp_heun_2_x0_sde": ExpHeun(eta=1.0),
    "dpm_2": DPM2(),
    "dpm_2_ancestral": DPM2Ancestral(),
    "lms": LMS(),
    "dpm_fast": DPMFast(),
    "dpm_adaptive": DPMAdaptive(),
    "dpmpp_2s_ancestral": DPMpp2SAncestral(),
    "dpmpp_2s_ancestral_cfg_pp": DPMpp2SAncestralCFGpp(),
    "dpmpp_sde": DPMppSDE(),
    "dpmpp_sde_gpu": DPMppSDE(),
    "dpmpp_2m": DPMpp2M(),
    "dpmpp_2m_cfg_pp": DPMpp2MCFGpp(),
    "dpmpp_2m_sde": DPMpp2MSDE(),
    "dpmpp_2m_sde_gpu": DPMpp2MSDE(),
    "dpmpp_2m_sde_heun": DPMpp2MSDE("heun"),
    "dpmpp_2m_sde_heun_gpu": DPMpp2MSDE("heun"),
    "dpmpp_3m_sde": DPMpp3MSDE(),
    "dpmpp_3m_sde_gpu": DPMpp3MSDE(),
    "ddpm": DDPM(),
    "lcm": LCM(),
    "ipndm": IPNDM(),
    "ipndm_v": IPNDMV(),
    "deis": DEIS(),
    "res_multistep": RESMultistep(),
    "res_multistep_cfg_pp": RESMultistep(cfg_pp=True),
    "res_multistep_ancestral": RESMultistepAncestral(),
    "res_multistep_ancestral_cfg_pp": RESMultistepAncestral(cfg_pp=True),
    "gradient_estimation": GradientEstimation(),
    "gradient_estimation_cfg_pp": GradientEstimation(cfg_pp=True),
    "er_sde": ERSDE(),
    "seeds_2": SEEDS2(),
    "seeds_3": SEEDS3(),
    "sa_solver": SASolver(),
    "sa_solver_pece": SASolver(use_pece=True),
    "ddim": DDIM(),
    "uni_pc": UniPC(),
    "uni_pc_bh2": UniPC(bh2=True),
}
OTHERS: dict[str, Stepper] = {"euler_pp": EulerPP(), "lcm_upscale": LCMUpscale()}
"""Methods that only a node of their own gives."""
