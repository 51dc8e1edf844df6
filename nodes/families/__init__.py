"""The model families that can run, and which of them a file holds. Each is one folder here and one name in the list.

Imports no torch: listing, checking and running from the cache stay quick.
"""

from __future__ import annotations

from ..files.header import Header
from ..model.family import Family, Found
from .anima import ANIMA
from .chroma import CHROMA
from .ernie_image import ERNIE_IMAGE
from .fibo2 import FIBO2
from .flux import FLUX
from .flux2 import FLUX2
from .flux3 import FLUX3
from .hidream import HIDREAM
from .ideogram4 import IDEOGRAM4
from .joyimage import JOYIMAGE
from .kandinsky5 import KANDINSKY5
from .kits.flux2_vae import FLUX2_VAE
from .kits.kl_vae import KL_VAE
from .kits.ltx2_vae import LTX2_VAE
from .kits.ltx_vae import LTX_VAE
from .kits.qwen21_vae import QWEN21_VAE
from .kits.temporal_vae import TEMPORAL_VAE
from .kits.wan22_vae import WAN22_VAE
from .kits.wan_vae import WAN_VAE
from .krea2 import KREA2
from .longcat import LONGCAT
from .ltx import LTX
from .ltx2 import LTX2
from .lumina2 import LUMINA2
from .ovis import OVIS
from .qwen_image import QWEN_IMAGE
from .qwen_image_21 import QWEN_IMAGE_21
from .sd3 import SD3
from .sdxl import SDXL, SDXL_REFINER
from .stable_diffusion import SD1, SD2
from .svd import SVD
from .wan import WAN
from .z_image import Z_IMAGE

__all__ = ["FAMILIES", "VAES", "recognise", "recognise_vae"]

FAMILIES: tuple[Family, ...] = (
    SD1,
    SD2,
    SDXL,
    SDXL_REFINER,
    Z_IMAGE,
    LUMINA2,
    QWEN_IMAGE_21,
    QWEN_IMAGE,
    KREA2,
    ANIMA,
    ERNIE_IMAGE,
    OVIS,
    LONGCAT,
    FLUX,
    FLUX2,
    FLUX3,
    SD3,
    CHROMA,
    HIDREAM,
    IDEOGRAM4,
    KANDINSKY5,
    JOYIMAGE,
    FIBO2,
    WAN,
    LTX,
    LTX2,
    SVD,
)
"""Of denoisers."""
VAES: tuple[Family, ...] = (FLUX2_VAE, QWEN21_VAE, WAN22_VAE, TEMPORAL_VAE, LTX_VAE, LTX2_VAE, KL_VAE, WAN_VAE)
"""Kinds of VAEs; one serves several families of denoisers."""


def recognise(header: Header) -> tuple[Family, Found] | None:
    """The family of the denoiser in a file, and where its parts lie; None where it is of none of them."""
    return _first(FAMILIES, header)


def recognise_vae(header: Header) -> tuple[Family, Found] | None:
    """The kind of the VAE in a file: a whole checkpoint or a file of its own; None where there is none."""
    return _first(VAES, header)


def _first(families: tuple[Family, ...], header: Header) -> tuple[Family, Found] | None:
    for family in families:
        try:
            found = family.recognise(header)
        except (IndexError, KeyError, TypeError, ValueError):
            continue  # its tensors have other ranks than those of the family, or its configs other types
        if found is not None:
            return family, found
    return None
