"""The kinds of `model.model.model_config`, for comparisons."""

from graphflow_nodes.foreign.kinds import CONFIG_KINDS as _KINDS

globals().update({name: kind for name, kind in _KINDS.items() if name != "BASE"})
__all__ = [name for name in _KINDS if name != "BASE"]
models = [kind for name, kind in _KINDS.items() if name != "BASE"]
