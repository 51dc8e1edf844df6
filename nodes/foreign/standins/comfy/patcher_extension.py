"""Names that packs give wrappers and callbacks of a MODEL. A MODEL that is asked for one raises."""

from graphflow_nodes.foreign.model_options import copied as copy_nested_dicts

__all__ = ["CallbacksMP", "WrappersMP", "copy_nested_dicts"]


class _Names:
    @classmethod
    def get_all(cls):
        return [name for key, name in vars(cls).items() if key.isupper() or key.startswith("ON_")]


class WrappersMP(_Names):
    OUTER_SAMPLE = "outer_sample"
    PREPARE_SAMPLING = "prepare_sampling"
    SAMPLER_SAMPLE = "sampler_sample"
    PREDICT_NOISE = "predict_noise"
    CALC_COND_BATCH = "calc_cond_batch"
    APPLY_MODEL = "apply_model"
    DIFFUSION_MODEL = "diffusion_model"


class CallbacksMP(_Names):
    ON_CLONE = "on_clone"
    ON_LOAD = "on_load_after"
    ON_DETACH = "on_detach_after"
    ON_CLEANUP = "on_cleanup"
    ON_PRE_RUN = "on_pre_run"
    ON_PREPARE_STATE = "on_prepare_state"
