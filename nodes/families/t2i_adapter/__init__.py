"""T2I-Adapters of Stable Diffusion 1.x, 2.x and XL (arXiv 2302.08453): small networks that see an image alone.

Their answers are added to what leaves each level of the U-Net going down. They ask for neither the latent nor the noise
level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import Model
from ...model.latent import LatentFormat
from ..kits import unet

__all__ = ["T2I_ADAPTER"]

Shape = tuple[int, ...]
FACTOR, FACTOR_XL = 8, 16
"""Pixels to a side of a cell of the first level: one of SDXL's is twice as large."""
BODY, ADAPTER = "body.0.block1.weight", "adapter.body.0.resnets.0.block1.weight"


def _recognise(header: Header) -> Found | None:
    shapes: Mapping[str, Shape] = {name: info.shape for name, info in header.tensors.items()}
    is_light = "conv_in.weight" not in shapes and "adapter.conv_in.weight" not in shapes
    if ADAPTER in shapes:
        config, layout = _of_adapter(shapes, "adapter.", is_light), "diffusers"
    elif is_light and "body.0.body.0.block1.weight" in shapes:
        config, layout = _light(shapes, "", "body"), "light"
    elif not is_light and BODY in shapes:
        config, layout = _flat(shapes), "flat"
    else:
        return None
    latent = {"channels": 4, "factor": 8}
    return Found(Config({"denoiser": config, "latent": latent}), {"denoiser": (layout, "")}, config["adapter_type"])


def _of_adapter(shapes: Mapping[str, Shape], prefix: str, is_light: bool) -> dict[str, Any]:
    if is_light:
        return _light(shapes, prefix, "resnets")
    levels, blocks = _count(shapes, prefix + "body.{}.resnets.0.block1.weight"), 0
    blocks = _count(shapes, prefix + "body.0.resnets.{}.block1.weight")
    widths = [shapes[f"{prefix}body.{level}.resnets.0.block1.weight"][0] for level in range(levels)]
    return _full(shapes[f"{prefix}conv_in.weight"][1], widths, blocks)


def _flat(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The layout of the first files: all residual blocks in one list, two to a level."""
    count = _count(shapes, "body.{}.block1.weight")
    widths = [shapes[f"body.{number}.block1.weight"][0] for number in range(0, count, 2)]
    return _full(shapes["conv_in.weight"][1], widths, 2)


def _full(columns: int, widths: list[int], blocks: int) -> dict[str, Any]:
    is_xl = columns in (FACTOR_XL**2, 3 * FACTOR_XL**2)
    factor = FACTOR_XL if is_xl else FACTOR
    return {
        "in_channels": columns // factor**2,
        "channels": widths,
        "num_res_blocks": blocks,
        "downscale_factor": factor,
        "adapter_type": "full_adapter_xl" if is_xl else "full_adapter",
    }


def _light(shapes: Mapping[str, Shape], prefix: str, inner: str) -> dict[str, Any]:
    levels = _count(shapes, prefix + "body.{}.out_conv.weight")
    widths = [shapes[f"{prefix}body.{level}.out_conv.weight"][0] for level in range(levels - 1)]
    return {
        "in_channels": shapes[f"{prefix}body.0.in_conv.weight"][1] // FACTOR**2,
        "channels": widths,
        "num_res_blocks": _count(shapes, prefix + "body.0." + inner + ".{}.block1.weight"),
        "downscale_factor": FACTOR,
        "adapter_type": "light_adapter",
    }


def _count(shapes: Mapping[str, Shape], name: str) -> int:
    count = 0
    while name.format(count) in shapes:
        count += 1
    return count


def _flat_table(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {"adapter": ""}
    for level in range(len(config.channels)):
        table[f"adapter.body.{level}.in_conv"] = f"body.{2 * level}.in_conv"
        table |= {f"adapter.body.{level}.resnets.{inner}": f"body.{2 * level + inner}" for inner in range(2)}
    return table


def _light_table(config: Config) -> Table:
    levels = range(len(config.channels) + 1)
    return {"adapter": "", **{f"adapter.body.{level}.resnets": f"body.{level}.body" for level in levels}}


def _misfit(config: Config, model: Model) -> str:
    own, other = config.denoiser, model.config.get("denoiser")
    if not isinstance(other, Config) or model.family.ports.residuals != unet.PORTS.residuals:
        return f"it steers a U-Net of Stable Diffusion, which {model.family.title} does not have"
    channels, widths = tuple(own.channels), tuple(other.block_out_channels)
    is_xl = own.downscale_factor == FACTOR_XL
    if is_xl != unet.takes_sizes(other) or channels[: len(widths)] != widths[: len(channels)]:
        return (
            f"it steers {'Stable Diffusion XL' if is_xl else 'Stable Diffusion 1.x or 2.x'} with levels of "
            f"{', '.join(map(str, channels))} channels, the model is {model.family.title} with "
            f"{', '.join(map(str, widths))}"
        )
    return ""


def _latent(config: Config) -> LatentFormat:
    return LatentFormat(**config.latent)


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "diffusers": lambda config: {"": ""},
    "flat": _flat_table,
    "light": _light_table,
}
T2I_ADAPTER = Family(
    name="t2i_adapter",
    version="1",
    title="T2I-Adapter",
    recognise=_recognise,
    parts={"denoiser": Part(build=f"{__name__}.network:build", layouts=LAYOUTS, title="T2I-Adapter")},
    latent=_latent,
    network=f"{__name__}.network",
    misfit=_misfit,
)
