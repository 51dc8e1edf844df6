"""The VAE of Wan 2.1 and Qwen-Image, of images and videos: its config from shapes, and its table. Imports no torch.

Configs are the arguments of diffusers' AutoencoderKLQwenImage, which has the modules of AutoencoderKLWan. Layouts:
`wan` (the names of Wan's own code, as in single files) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat

__all__ = ["MEAN", "STD", "WAN_VAE", "find", "latent_of"]

Shape = tuple[int, ...]
PREFIXES = ("vae.", "first_stage_model.", "")
CLASSES = ("AutoencoderKLQwenImage", "AutoencoderKLWan")
MEAN = (
    -0.7571,
    -0.7089,
    -0.9113,
    0.1075,
    -0.1745,
    0.9653,
    -0.1517,
    1.5508,
    0.4134,
    -0.0715,
    0.5517,
    -0.3632,
    -0.1922,
    -0.9497,
    0.2503,
    -0.2921,
)
STD = (
    2.8184,
    1.4541,
    2.3275,
    2.6558,
    1.2196,
    1.7708,
    2.6052,
    2.0743,
    3.2687,
    2.1526,
    2.8652,
    1.5579,
    1.6382,
    1.1253,
    2.8251,
    1.9160,
)
"""Mean and deviation of each channel of its latents: the defaults of both classes in diffusers."""
_ARGUMENTS = ("base_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample", "input_channels")
_DEFAULTS = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "temperal_downsample": (False, True, True),
    "input_channels": 3,
}


def find(header: Header) -> tuple[Config, str, str] | None:
    """Config, layout and prefix of the VAE of a file or a folder; None where there is none."""
    for part in ("vae", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") in CLASSES and not stated.get("is_residual"):
            return _from_json(stated), "diffusers", f"{part}/" if part else ""
    for prefix in PREFIXES:
        shapes = {name[len(prefix) :]: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}
        for layout, read in (("wan", _of_wan), ("diffusers", _of_diffusers)):
            config = read(shapes)
            if config is not None:
                return config, layout, prefix
    return None


def latent_of(channels: int, multiple: int) -> LatentFormat:
    """The latents of a denoiser of images or videos that has this VAE."""
    return LatentFormat(
        channels=channels,
        factor=8,
        axes=3,
        time_factor=4,
        multiple=multiple,
        scale=tuple(1.0 / deviation for deviation in STD),
        shift=MEAN,
    )


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found[0], {"vae": found[1:]}) if found is not None else None


def _from_json(stated: Mapping[str, Any]) -> Config:
    channels = stated.get("input_channels", stated.get("in_channels", 3))
    kept = {name: stated[name] for name in _ARGUMENTS if name in stated}
    return Config({**_DEFAULTS, **kept, "input_channels": channels})


def _of_wan(shapes: Mapping[str, Shape]) -> Config | None:
    """None for the residual form of Wan 2.2 and Qwen-Image 2.1, whose blocks lie one level deeper."""
    if "decoder.middle.0.residual.0.gamma" not in shapes or "encoder.downsamples.0.residual.2.weight" not in shapes:
        return None
    return _in_order(shapes, "encoder.downsamples.{}", "residual.2", "conv1", "decoder.conv1", "encoder.conv1")


def _of_diffusers(shapes: Mapping[str, Shape]) -> Config | None:
    if len(shapes.get("encoder.down_blocks.0.conv1.weight", ())) != 5 or "decoder.conv_in.weight" not in shapes:
        return None
    return _in_order(shapes, "encoder.down_blocks.{}", "conv1", "quant_conv", "decoder.conv_in", "encoder.conv_in")


def _in_order(
    shapes: Mapping[str, Shape], block: str, residual: str, moments: str, inward: str, first: str
) -> Config | None:
    """From the blocks of the encoder, one after another: residual blocks, and what halves the image (and time)."""
    widths: list[list[int]] = [[]]
    in_time: list[bool] = []
    number = 0
    while True:
        name = block.format(number)
        if f"{name}.{residual}.weight" in shapes:
            widths[-1].append(shapes[f"{name}.{residual}.weight"][0])
        elif f"{name}.resample.1.weight" in shapes:
            in_time.append(f"{name}.time_conv.weight" in shapes)
            widths.append([])
        else:
            break
        number += 1
    base, channels = shapes[f"{first}.weight"][:2]
    z = shapes[f"{inward}.weight"][1]
    if not all(widths) or shapes[f"{moments}.weight"][0] != 2 * z or any(level[-1] % base for level in widths):
        return None
    return Config(
        base_dim=base,
        z_dim=z,
        dim_mult=[level[-1] // base for level in widths],
        num_res_blocks=len(widths[0]),
        temperal_downsample=in_time,
        input_channels=channels,
    )


def _wan(config: Config) -> Table:
    table = {
        "quant_conv": "conv1",
        "post_quant_conv": "conv2",
    }
    for half in ("encoder", "decoder"):
        table |= {
            f"{half}.conv_in": f"{half}.conv1",
            f"{half}.norm_out": f"{half}.head.0",
            f"{half}.conv_out": f"{half}.head.2",
            f"{half}.mid_block.attentions.0": f"{half}.middle.1",
        }
    for module, name in _modules(config):
        if ".upsamplers." in module:
            table[module] = name
            continue
        table |= {
            module: name,
            f"{module}.norm1": f"{name}.residual.0",
            f"{module}.conv1": f"{name}.residual.2",
            f"{module}.norm2": f"{name}.residual.3",
            f"{module}.conv2": f"{name}.residual.6",
            f"{module}.conv_shortcut": f"{name}.shortcut",
        }
    return table


def _modules(config: Config) -> Iterator[tuple[str, str]]:
    """diffusers' name and Wan's name of each residual block and resampling; Wan numbers them through."""
    layers, levels = config.num_res_blocks, len(config.dim_mult)
    for half in ("encoder", "decoder"):
        yield f"{half}.mid_block.resnets.0", f"{half}.middle.0"
        yield f"{half}.mid_block.resnets.1", f"{half}.middle.2"
    for number in range(levels * (layers + 1) - 1):
        yield f"encoder.down_blocks.{number}", f"encoder.downsamples.{number}"
    number = 0
    for level in range(levels):
        for layer in range(layers + 1):
            yield f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.upsamples.{number}"
            number += 1
        if level < levels - 1:
            yield f"decoder.up_blocks.{level}.upsamplers.0", f"decoder.upsamples.{number}"
            number += 1


_LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"wan": _wan, "diffusers": lambda config: {"": ""}}

WAN_VAE = Family(
    name="wan_vae",
    version="1",
    title="VAE of Wan 2.1 and Qwen-Image",
    recognise=_recognise,
    parts={"vae": Part(build=f"{__name__}_network:build", layouts=_LAYOUTS, title="VAE", dtype="float32")},
    latent=lambda config: LatentFormat(
        channels=config.z_dim,
        factor=2 ** (len(config.dim_mult) - 1),
        axes=3,
        time_factor=2 ** sum(config.temperal_downsample),
    ),
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents are in its own unit. An image is a video of one frame."""
