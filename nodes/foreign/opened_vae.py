"""The VAE of tensors that a pack has loaded."""

from __future__ import annotations

from typing import Any

from graphflow.spi import current_settings

from ..families.opened import open_vae
from ..model.handles import Vae
from .loras import path_of

__all__ = ["vae_of"]


def vae_of(tensors: Any) -> Vae:
    """Raises a Problem where they are not those of a file as `load_torch_file` gave them."""
    return open_vae(path_of(tensors, "VAE"), current_settings())
