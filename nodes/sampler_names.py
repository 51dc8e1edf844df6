"""The names of samplers and schedules, readable without importing torch."""

SAMPLER_NAMES = ("euler", "euler_ancestral", "ddim", "ddpm", "dpmpp_2m", "heun")
SCHEDULE_NAMES = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform")
