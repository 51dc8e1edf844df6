"""The base of the kinds in `supported_models`."""

from graphflow_nodes.foreign.inner_model import ModelConfig as BASE

__all__ = ["BASE"]
