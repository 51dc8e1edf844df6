"""The names of samplers and schedules, readable without importing torch."""

SAMPLER_NAMES = (
    "euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m",
    "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "ddpm", "lcm", "ipndm", "res_multistep", "gradient_estimation",
    "ddim", "uni_pc", "uni_pc_bh2",
)  # fmt: skip
SCHEDULE_NAMES = (
    "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic", "kl_optimal",
)  # fmt: skip

PENULTIMATE_DROPPED = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})
"""Samplers that do better without a step to the lowest trained noise level: they walk a schedule of one step more, whose
last level but one is left out."""
