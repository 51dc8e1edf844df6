"""What a CLIP and a VAE are, for annotations and checks. They are handles: nothing is loaded or patched by this
module."""

from graphflow_nodes.families.handles import Clip as CLIP
from graphflow_nodes.families.handles import Vae as VAE

__all__ = ["CLIP", "VAE"]
