"""Samplers and schedules by name, guidance, and answers of the network in the middle of a step."""

from graphflow_nodes.samplers.names import PENULTIMATE_DROPPED as _DROPPED
from graphflow_nodes.samplers.names import SAMPLER_NAMES as _SAMPLERS
from graphflow_nodes.samplers.names import SCHEDULE_NAMES as _SCHEDULES

SAMPLER_NAMES = list(_SAMPLERS)
KSAMPLER_NAMES = list(_SAMPLERS)
SCHEDULER_NAMES = list(_SCHEDULES)
SCHEDULER_HANDLERS = {name: None for name in SCHEDULER_NAMES}


def __getattr__(name):
    if name in ("calc_cond_batch", "cfg_function", "sampling_function"):
        from graphflow_nodes.foreign import asking

        return getattr(asking, name)
    if name in ("CFGGuider", "sample"):
        from graphflow_nodes.foreign import guider

        return {"CFGGuider": guider.ForeignGuider, "sample": guider.sample}[name]
    if name in ("KSAMPLER", "KSamplerX0Inpaint", "Sampler"):
        from graphflow_nodes.foreign import pack_sampler as own

        return {"KSAMPLER": own.PackSampler, "KSamplerX0Inpaint": own.MaskedModel, "Sampler": own.ForeignSampler}[name]
    raise AttributeError(f"module 'comfy.samplers' has no attribute {name!r}", name=name)


def calculate_sigmas(model_sampling, scheduler_name, steps):
    """Falling levels [steps + 1], ending in 0."""
    from graphflow_nodes.foreign.prediction import prediction_of
    from graphflow_nodes.samplers.schedules import schedule

    return schedule(scheduler_name, int(steps), prediction_of(model_sampling, ""))


def simple_scheduler(model_sampling, steps):
    return calculate_sigmas(model_sampling, "simple", steps)


def normal_scheduler(model_sampling, steps, sgm=False, floor=False):
    return calculate_sigmas(model_sampling, "sgm_uniform" if sgm else "normal", steps)


def ddim_scheduler(model_sampling, steps):
    return calculate_sigmas(model_sampling, "ddim_uniform", steps)


def beta_scheduler(model_sampling, steps, alpha=0.6, beta=0.6):
    from graphflow_nodes.samplers.schedules import beta_of

    return beta_of(model_sampling.prediction, steps, alpha, beta)


def sampler_object(name):
    """A SAMPLER."""
    return ksampler(name)


def ksampler(sampler_name, extra_options=None, inpaint_options=None):
    """A SAMPLER with options of its own."""
    from graphflow_nodes.foreign.sampler_face import SamplerFace
    from graphflow_nodes.samplers.values import SamplerHandle

    return SamplerFace(SamplerHandle(sampler_name, tuple(sorted((extra_options or {}).items()))))


class KSampler:
    """A sampler and its levels for one model."""

    SAMPLERS = SAMPLER_NAMES
    SCHEDULERS = SCHEDULER_NAMES
    DISCARD_PENULTIMATE_SIGMA_SAMPLERS = frozenset(_DROPPED)

    def __init__(self, model, steps, device=None, sampler=None, scheduler=None, denoise=None, model_options=None):
        self.model, self.device = model, device
        self.scheduler = scheduler if scheduler in SCHEDULER_NAMES else SCHEDULER_NAMES[0]
        self.sampler = sampler if sampler in SAMPLER_NAMES else SAMPLER_NAMES[0]
        self.denoise, self.model_options = denoise, model_options or {}
        self.set_steps(steps, denoise)

    def set_steps(self, steps, denoise=None):
        from graphflow_nodes.samplers.schedules import schedule

        self.steps = steps
        prediction = self.model.settled().prediction
        share = 1.0 if denoise is None or denoise > 0.9999 else denoise
        self.sigmas = schedule(self.scheduler, steps, prediction, share, self.sampler in _DROPPED)

    def calculate_sigmas(self, steps):
        from graphflow_nodes.samplers.schedules import schedule

        prediction = self.model.settled().prediction
        return schedule(self.scheduler, steps, prediction, 1.0, self.sampler in _DROPPED)

    def sample(
        self,
        noise,
        positive,
        negative,
        cfg,
        latent_image=None,
        start_step=None,
        last_step=None,
        force_full_denoise=False,
        denoise_mask=None,
        sigmas=None,
        callback=None,
        disable_pbar=False,
        seed=None,
    ):
        """Samples [B, C, h, w], VAE unit."""
        from graphflow_nodes.foreign.sample import part_of, sampled

        levels = part_of(self.sigmas if sigmas is None else sigmas, start_step, last_step, force_full_denoise)
        return sampled(
            self.model,
            noise,
            positive,
            negative,
            cfg,
            sampler_object(self.sampler),
            levels,
            latent_image,
            mask=denoise_mask,
            callback=callback,
            seed=seed,
        )
