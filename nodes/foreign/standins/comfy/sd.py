"""What a CLIP and a VAE are, for annotations and checks. They are handles: nothing is loaded or patched by this
module."""

from graphflow_nodes.foreign.clip_face import ClipFace as CLIP
from graphflow_nodes.foreign.vae_face import VaeFace as VAE

__all__ = ["CLIP", "VAE"]
