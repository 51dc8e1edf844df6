"""The latents of families, by ComfyUI's names for them."""

from graphflow_nodes.foreign.inner_model import LatentFace as LatentFormat
from graphflow_nodes.model.latent import LatentFormat as _Format

__all__ = ["Flux", "LatentFormat", "SD3", "SD15", "SDXL"]


def _kind(name, format):
    def start(self):
        LatentFormat.__init__(self, format)

    return type(name, (LatentFormat,), {"__init__": start, "__module__": __name__})


SD15 = _kind("SD15", _Format(channels=4, scale=0.18215))
SDXL = _kind("SDXL", _Format(channels=4, scale=0.13025))
SD3 = _kind("SD3", _Format(channels=16, scale=1.5305, shift=0.0609))
Flux = _kind("Flux", _Format(channels=16, scale=0.3611, shift=0.1159))
