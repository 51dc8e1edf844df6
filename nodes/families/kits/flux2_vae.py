r"""The VAE of FLUX.2 (AutoencoderKLFlux2): its config from shapes, and its table. Imports no torch.

The VAE of Stable Diffusion with 32 channels, of which 2 x 2 cells are one of 128 channels, in the unit of a batch norm
that was measured in training: :math:`m = (v - \mu) / \sqrt{\mathrm{var} + 10^{-4}}`. Layouts: `ldm` and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat
from . import kl_vae

__all__ = ["FLUX2_VAE"]

MEAN = "bn.running_mean"
_INNER = {"quant_conv": "encoder.quant_conv", "post_quant_conv": "decoder.post_quant_conv"}
"""Where single files have these two."""


def _recognise(header: Header) -> Found | None:
    if header.configs.get("model_index", {}).get("_class_name") == "Ideogram4Pipeline":
        return None  # its folder has the numbers of the batch norm in another order: load FLUX.2's VAE
    stated_in = next((part for part in ("vae", "") if part in header.configs), None)
    prefixes = kl_vae.PREFIXES if stated_in is None else (f"{stated_in}/" if stated_in else "",)
    shapes = {name: info.shape for name, info in header.tensors.items()}
    for prefix in prefixes:
        if prefix + MEAN not in shapes:
            continue
        found = kl_vae.in_shapes(shapes, prefix)
        if found is None or shapes[prefix + MEAN] != (4 * found[0].latent_channels,):
            return None
        config, layout = found
        inner = [name for name, there in _INNER.items() if f"{prefix}{there}.weight" in shapes]
        widths = [shapes[f"{prefix}{name}.conv1.weight"][0] for name in _decoder_levels(config, layout)]
        config = config | {"decoder_block_out_channels": widths[::-1], "inner_quant_conv": bool(inner)}
        config = config | {f"use_{name}": True for name in inner}
        return Found(config, {"vae": (layout, prefix)})
    return None


def _decoder_levels(config: Config, layout: str) -> list[str]:
    """The first block of each level of the decoder, from the coarsest."""
    levels = len(config.block_out_channels)
    if layout == "ldm":
        return [f"decoder.up.{level}.block.0" for level in reversed(range(levels))]
    return [f"decoder.up_blocks.{level}.resnets.0" for level in range(levels)]


def _table(layout: str) -> Callable[[Config], Table]:
    def table(config: Config) -> Table:
        return {**kl_vae.LAYOUTS[layout](config), **(_INNER if config.inner_quant_conv else {})}

    return table


_LAYOUTS: Mapping[str, Callable[[Config], Table]] = {name: _table(name) for name in ("ldm", "diffusers")}

FLUX2_VAE = Family(
    name="flux2_vae",
    version="1",
    title="VAE of FLUX.2",
    recognise=_recognise,
    parts={
        "vae": Part(
            build=f"{__name__}_network:build",
            layouts=_LAYOUTS,
            title="VAE",
            dtype="float32",
            optional=("bn.num_batches_tracked",),
        )
    },
    latent=lambda config: LatentFormat(channels=4 * config.latent_channels, factor=2 * kl_vae.factor(config)),
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents have mean 0 and variance 1."""
