"""The VAE of Stable Diffusion (AutoencoderKL): its config from shapes, and its table. Imports no torch.

Layouts: `ldm` (`decoder.mid.block_1`), `diffusers` (`decoder.mid_block.resnets.0`) and `diffusers-old`, whose attention
has the names of diffusers before 0.18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat

__all__ = ["KL_VAE", "LAYOUTS", "PREFIXES", "UNUSED", "VaeFound", "factor", "find", "in_shapes", "modules"]

Shape = tuple[int, ...]
UNUSED = ("loss.*", "model_ema.*", "*.num_batches_tracked")


PREFIXES = ("first_stage_model.", "vae.", "")


@dataclass(frozen=True, slots=True)
class VaeFound:
    """A VAE in a file or a folder."""

    config: Config
    layout: str
    prefix: str


def find(header: Header) -> VaeFound | None:
    """The VAE of a checkpoint, a file of its own or a diffusers folder; None where there is none."""
    shapes = {name: info.shape for name, info in header.tensors.items()}
    for part in ("vae", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == "AutoencoderKL":
            prefix = f"{part}/" if part else ""
            found = in_shapes(shapes, prefix)
            return VaeFound(_from_json(stated), found[1] if found else "diffusers", prefix)
    for prefix in PREFIXES:
        found = in_shapes(shapes, prefix)
        if found is not None:
            return VaeFound(*found, prefix)
    return None


def factor(config: Config) -> int:
    """Pixels of one cell of its latents, along a side."""
    return int(2 ** (len(config.block_out_channels) - 1))


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found.config, {"vae": (found.layout, found.prefix)}) if found is not None else None


def in_shapes(shapes: Mapping[str, Shape], prefix: str) -> tuple[Config, str] | None:
    """The config and the layout of a VAE whose names begin with `prefix`; None where there is none."""
    ldm = f"{prefix}decoder.mid.block_1.conv1.weight" in shapes
    block = "encoder.down.{}.block.{}.conv1.weight" if ldm else "encoder.down_blocks.{}.resnets.{}.conv1.weight"
    first, last = f"{prefix}decoder.conv_in.weight", f"{prefix}decoder.conv_out.weight"
    if len(shapes.get(first, ())) != 4 or last not in shapes or prefix + block.format(0, 0) not in shapes:
        return None
    levels = _count(lambda level: prefix + block.format(level, 0) in shapes)
    config = Config(
        in_channels=shapes[f"{prefix}encoder.conv_in.weight"][1],
        out_channels=shapes[last][0],
        latent_channels=shapes[first][1],
        block_out_channels=[shapes[prefix + block.format(level, 0)][0] for level in range(levels)],
        layers_per_block=_count(lambda layer: prefix + block.format(0, layer) in shapes),
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        norm_num_groups=32,
        use_quant_conv=f"{prefix}quant_conv.weight" in shapes,
        use_post_quant_conv=f"{prefix}post_quant_conv.weight" in shapes,
    )
    old = f"{prefix}decoder.mid_block.attentions.0.query.weight" in shapes
    return config, "ldm" if ldm else "diffusers-old" if old else "diffusers"


def _from_json(stated: Mapping[str, Any]) -> Config:
    """The config of a diffusers folder, without what its class says of itself and what concerns the denoiser."""
    left_out = {"scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast", "sample_size"}
    kept = {key: value for key, value in stated.items() if not key.startswith("_") and key not in left_out}
    return Config({"in_channels": 3, "latent_channels": 4, "layers_per_block": 1, "block_out_channels": (64,), **kept})


def _count(there: Callable[[int], bool]) -> int:
    count = 0
    while there(count):
        count += 1
    return count


def _ldm(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {"": ""}
    for module, name in modules(config):
        table[module] = name
        if ".resnets." in module:
            table[f"{module}.conv_shortcut"] = f"{name}.nin_shortcut"
    for half in ("encoder", "decoder"):
        table[f"{half}.conv_norm_out"] = f"{half}.norm_out"
        table |= _attention(half, f"{half}.mid.attn_1", ("norm", "q", "k", "v", "proj_out"))
    return table


def _old(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {"": ""}
    for half in ("encoder", "decoder"):
        names = ("group_norm", "query", "key", "value", "proj_attn")
        table |= _attention(half, f"{half}.mid_block.attentions.0", names)
    return table


def _attention(half: str, there: str, names: tuple[str, ...]) -> Table:
    """The attention in the middle: in files its Linears may be convolutions of one pixel."""
    here = f"{half}.mid_block.attentions.0"
    table: dict[str, TensorPlace | str] = {f"{here}.group_norm": f"{there}.{names[0]}"}
    for module, name in zip(("to_q", "to_k", "to_v", "to_out.0"), names[1:], strict=True):
        table[f"{here}.{module}.weight"] = TensorPlace(f"{there}.{name}.weight", form="flat")
        table[f"{here}.{module}.bias"] = TensorPlace(f"{there}.{name}.bias")
    return table


def modules(config: Config) -> Iterator[tuple[str, str]]:
    """diffusers' name and LDM's name of each residual block and resampling."""
    layers, levels = config.layers_per_block, len(config.block_out_channels)
    for half in ("encoder", "decoder"):
        yield f"{half}.mid_block.resnets.0", f"{half}.mid.block_1"
        yield f"{half}.mid_block.resnets.1", f"{half}.mid.block_2"
    for level in range(levels):
        for layer in range(layers):
            yield f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}"
        yield f"encoder.down_blocks.{level}.downsamplers.0.conv", f"encoder.down.{level}.downsample.conv"
        up = levels - 1 - level  # LDM counts the levels of the decoder from the finest
        for layer in range(layers + 1):
            yield f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.up.{up}.block.{layer}"
        yield f"decoder.up_blocks.{level}.upsamplers.0.conv", f"decoder.up.{up}.upsample.conv"


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "ldm": _ldm,
    "diffusers": lambda config: {"": ""},
    "diffusers-old": _old,
}

KL_VAE = Family(
    name="kl_vae",
    version="1",
    title="VAE of Stable Diffusion",
    recognise=_recognise,
    parts={
        "vae": Part(
            build=f"{__name__}_network:build",
            layouts=LAYOUTS,
            title="VAE",
            dtype="float32",  # SDXL's overflows in float16
            unused=UNUSED,
            saved=("ldm", "first_stage_model."),
        )
    },
    latent=lambda config: LatentFormat(channels=config.latent_channels, factor=factor(config)),
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents are in its own unit."""
