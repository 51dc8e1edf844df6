"""What a MODEL is, for annotations and checks. It is a handle: nothing is patched."""

from graphflow_nodes.models.handles import Model as ModelPatcher

__all__ = ["ModelPatcher"]
