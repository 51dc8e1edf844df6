"""The unit of a latent: the LATENT socket holds what the VAE works on, a U-Net works on that times a factor
that gives it unit variance (0.18215 for Stable Diffusion 1.x; High-Resolution Image Synthesis with Latent Diffusion
Models, arXiv 2112.10752, appendix G)."""

from __future__ import annotations

import json
from pathlib import Path

from .handles import Source

__all__ = ["latent_scale"]

SD15_SCALE = 0.18215


def latent_scale(source: Source | None) -> float:
    """The factor of a model: a diffusers folder states it in its VAE's config. Stable Diffusion's where no model is known."""
    if source is not None and source.kind == "diffusers":
        config = Path(source.path) / "vae" / "config.json"
        if config.is_file():
            return float(json.loads(config.read_text(encoding="utf-8")).get("scaling_factor", SD15_SCALE))
    return SD15_SCALE
