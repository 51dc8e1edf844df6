"""What a MODEL is, for annotations and checks; and the helpers that put functions into `model_options`."""

from graphflow_nodes.foreign.model_face import ModelFace as ModelPatcher
from graphflow_nodes.foreign.model_options import with_appended, with_replacement

__all__ = ["ModelPatcher", "create_model_options_clone", "set_model_options_patch_replace"]


def create_model_options_clone(orig_model_options):
    from graphflow_nodes.foreign.model_options import copied

    return copied(orig_model_options)


def set_model_options_patch_replace(model_options, patch, name, block_name, number, transformer_index=None):
    place = (block_name, number) if transformer_index is None else (block_name, number, transformer_index)
    inner = model_options.get("transformer_options", {})
    model_options["transformer_options"] = with_replacement(inner, name, place, patch)
    return model_options


def set_model_options_patch(model_options, patch, name):
    model_options["transformer_options"] = with_appended(model_options.get("transformer_options", {}), name, patch)
    return model_options


def set_model_options_post_cfg_function(model_options, post_cfg_function, disable_cfg1_optimization=False):
    return _listed(model_options, "sampler_post_cfg_function", post_cfg_function, disable_cfg1_optimization)


def set_model_options_pre_cfg_function(model_options, pre_cfg_function, disable_cfg1_optimization=False):
    return _listed(model_options, "sampler_pre_cfg_function", pre_cfg_function, disable_cfg1_optimization)


def _listed(model_options, name, function, needs_both):
    model_options[name] = [*model_options.get(name, ()), function]
    if needs_both:
        model_options["disable_cfg1_optimization"] = True
    return model_options
