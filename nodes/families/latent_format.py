"""The unit of a latent: the LATENT socket holds what the VAE works on, a U-Net works on that times a factor
that gives it unit variance (0.18215 for Stable Diffusion 1.x; High-Resolution Image Synthesis with Latent Diffusion
Models, arXiv 2112.10752, appendix G)."""

from __future__ import annotations

from pathlib import Path

from ..files.header import read_config
from .handles import Source

__all__ = ["latent_scale"]

SD15_SCALE = 0.18215


def latent_scale(source: Source | None) -> float:
    """The factor of a model: a diffusers folder states it in its VAE's config. Stable Diffusion's where no model is known."""
    if source is not None and source.kind == "diffusers":
        config = Path(source.path) / "vae" / "config.json"
        if config.is_file():
            stated = read_config(config).get("scaling_factor")
            return float(stated) if isinstance(stated, (int, float)) else SD15_SCALE
    return SD15_SCALE
