"""What a MODEL is, for annotations and checks. It is a handle: nothing is patched."""

from graphflow_nodes.foreign.methods import ModelFace as ModelPatcher

__all__ = ["ModelPatcher"]
