"""The common parts of families of flow transformers: where the denoiser lies in a file, and what lies beside it.

A denoiser is read from shapes: a family gives a function from shapes to its config and layout. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...files.header import Header
from ...model.config import Config
from ...model.family import Found, TextFound
from ...model.latent import LatentFormat
from . import kl_vae
from .transformer_file import transformer_in

__all__ = ["FLUX_LATENT", "DenoiserFound", "Shape", "add_parts", "assemble", "count", "find", "latent_format"]

Shape = tuple[int, ...]
FLUX_LATENT: Mapping[str, Any] = {"channels": 16, "factor": 8, "multiple": 2, "scale": 0.3611, "shift": 0.1159}
"""The latents of FLUX's VAE, for denoisers with patches of 2 x 2 cells."""


@dataclass(frozen=True, slots=True)
class DenoiserFound:
    """A denoiser in a file or a folder."""

    config: Config
    layout: str
    prefix: str


Read = Callable[[Mapping[str, Shape]], "tuple[Config, str] | None"]
"""Shapes by name -> the config and the layout; None where they are of another family."""


def find(header: Header, class_name: str, read: Read) -> DenoiserFound | None:
    """The denoiser of a checkpoint, a file of its own, or a diffusers folder whose config states `class_name`.

    A folder's config decides where it states a number that `read` has found in the shapes.
    """
    file = transformer_in(header)
    stated = file.stated or {}
    if stated.get("_class_name", class_name) != class_name:
        return None
    found = read(file.shapes)
    if found is None:
        return None
    config, layout = found
    named = {name: stated[name] for name in config if stated.get(name) is not None}
    return DenoiserFound(config | named, layout, file.prefix)


def count(shapes: Mapping[str, Shape], name: str) -> int:
    """How many of the names `name.format(0)`, `name.format(1)` ... there are."""
    found = 0
    while name.format(found) in shapes:
        found += 1
    return found


def latent_format(config: Config) -> LatentFormat:
    return LatentFormat(**config.latent)


def assemble(
    header: Header,
    denoiser: DenoiserFound,
    texts: Mapping[str, TextFound | None],
    latent: Mapping[str, Any],
    variant: str = "",
) -> Found:
    """All that lies in a file: the denoiser, those of `texts` (part -> encoder) that are there, and a VAE that fits."""
    configs: dict[str, Any] = {"denoiser": denoiser.config, "latent": latent}
    parts = {"denoiser": (denoiser.layout, denoiser.prefix)}
    for part, text in texts.items():
        if text is not None:
            configs[part] = text.config
            parts[part] = (text.layout, text.prefix)
    vae = kl_vae.find(header)
    if vae is not None and vae.config.latent_channels == latent["channels"]:
        configs["vae"] = vae.config
        configs["latent"] = {**latent, "factor": kl_vae.factor(vae.config)}
        parts["vae"] = (vae.layout, vae.prefix)
    return Found(Config(configs), parts, variant)


def add_parts(
    found: Found,
    texts: Mapping[str, TextFound | None],
    vae: tuple[Config, str, str] | None,
    fits: Callable[[Config], bool] = lambda vae: True,
) -> Found:
    """The same with those of `texts` (part -> encoder) that are in the file, and with its VAE (config, layout, prefix)
    where that one `fits`."""
    configs, parts = dict(found.config), dict(found.parts)
    for part, text in texts.items():
        if text is not None:
            configs[part], parts[part] = text.config, (text.layout, text.prefix)
    if vae is not None and fits(vae[0]):
        configs["vae"], parts["vae"] = vae[0], vae[1:]
    return Found(Config(configs), parts, found.variant)
