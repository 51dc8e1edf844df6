"""What a CLIP and a VAE are, for annotations and checks. They are handles: nothing is loaded or patched by this
module."""

from graphflow_nodes.foreign.methods import ClipFace as CLIP
from graphflow_nodes.foreign.methods import VaeFace as VAE

__all__ = ["CLIP", "VAE"]
