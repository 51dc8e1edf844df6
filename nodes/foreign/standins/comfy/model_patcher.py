"""What a MODEL is, for annotations and checks. It is a handle: nothing is patched."""

from graphflow_nodes.families.handles import Model as ModelPatcher

__all__ = ["ModelPatcher"]
