"""The VAE of Qwen-Image 2.1, of images with an alpha channel: its config from shapes, and its tables. Imports no torch.

Configs are arguments of diffusers' AutoencoderKLQwenImage21. Layouts: `wan` (the names of Wan 2.2's own code, in which
blocks of a level lie in lists of their own; inferred, no published file was at hand) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat

__all__ = ["MEAN", "QWEN21_VAE", "STD", "find"]

Shape = tuple[int, ...]
PREFIXES = ("vae.", "first_stage_model.", "")
CLASS = "AutoencoderKLQwenImage21"
MEAN = (
    0.5126,
    0.7721,
    -0.0631,
    1.3506,
    -0.7855,
    -2.1025,
    -0.3458,
    1.3722,
    1.8873,
    -1.7177,
    -0.6510,
    0.2732,
    0.7562,
    -0.6163,
    -1.0277,
    3.8363,
    2.0210,
    0.0472,
    0.9320,
    2.0087,
    2.4954,
    -0.1391,
    -1.4249,
    1.8464,
    -0.5236,
    1.2826,
    3.7046,
    -1.3035,
    2.7286,
    -1.4518,
    -1.9036,
    -1.9955,
    -0.0342,
    -1.0265,
    -0.7636,
    3.0555,
    0.0746,
    -3.0751,
    -0.1076,
    1.7376,
    -1.0914,
    -1.9435,
    -0.2784,
    -1.3680,
    0.4809,
    -0.4433,
    0.3764,
    0.5729,
    -2.0595,
    1.0960,
    -1.3260,
    -2.0211,
    -5.0179,
    0.5275,
    4.0162,
    1.8505,
    0.3026,
    1.9373,
    1.4937,
    0.2632,
    0.5547,
    -1.7121,
    -0.1562,
    0.0304,
)
STD = (
    3.2001,
    3.2936,
    3.4321,
    3.0091,
    3.1061,
    4.0379,
    4.0705,
    3.7910,
    3.0785,
    3.6500,
    3.9308,
    3.0904,
    2.8778,
    3.7675,
    3.7320,
    5.0756,
    3.2864,
    4.0397,
    3.1317,
    4.0443,
    2.9249,
    3.9454,
    3.0988,
    4.2489,
    3.4896,
    3.8513,
    3.9323,
    3.4719,
    3.7498,
    4.2830,
    3.5694,
    4.2467,
    3.9037,
    3.2947,
    5.0770,
    3.5075,
    3.2700,
    3.4767,
    2.8063,
    5.1125,
    3.5327,
    4.7833,
    3.1286,
    4.1819,
    3.8527,
    3.8312,
    3.5605,
    4.3875,
    3.9624,
    4.0168,
    3.5643,
    4.0550,
    5.5614,
    4.2963,
    4.4080,
    3.4959,
    3.8747,
    3.7608,
    3.5735,
    3.1490,
    3.7662,
    3.6746,
    3.4563,
    3.8161,
)
"""Mean and deviation of each channel of its latents: the defaults of the class in diffusers."""


def find(header: Header) -> tuple[Config, str, str] | None:
    """Config, layout and prefix of the VAE of a file or a folder; None where there is none."""
    for part in ("vae", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == CLASS:
            prefix = f"{part}/" if part else ""
            found = _in_shapes(_under(header, prefix))
            return (found[0], found[1], prefix) if found is not None else None
    for prefix in PREFIXES:
        found = _in_shapes(_under(header, prefix))
        if found is not None:
            return found[0], found[1], prefix
    return None


def _under(header: Header, prefix: str) -> dict[str, Shape]:
    length = len(prefix)
    return {name[length:]: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}


def _in_shapes(shapes: Mapping[str, Shape]) -> tuple[Config, str] | None:
    if "decoder.up_blocks.0.upsampler.resample.1.weight" in shapes:
        return _config(shapes, "diffusers"), "diffusers"
    if "decoder.upsamples.0.upsamples.0.residual.2.weight" in shapes and shapes["conv2.weight"][0] == 64:
        return _config(shapes, "wan"), "wan"
    return None


def _config(shapes: Mapping[str, Shape], layout: str) -> Config:
    wan = layout == "wan"
    level, conv = ("encoder.downsamples.{}.downsamples.{}", "residual.2") if wan else _NAMES
    halving = "encoder.downsamples.{0}.downsamples.{1}" if wan else "encoder.down_blocks.{0}.downsampler"
    widths: list[int] = []
    in_time: list[bool] = []
    layers = 0
    while f"{level.format(len(widths), 0)}.{conv}.weight" in shapes:
        here, layers = len(widths), 0
        while f"{level.format(here, layers)}.{conv}.weight" in shapes:
            layers += 1
        widths.append(shapes[f"{level.format(here, 0)}.{conv}.weight"][0])
        down = halving.format(here, layers)
        if f"{down}.resample.1.weight" in shapes:
            in_time.append(f"{down}.time_conv.weight" in shapes)
    first, last = ("encoder.conv1", "decoder.head.0") if wan else ("encoder.conv_in", "decoder.norm_out")
    base, channels = shapes[f"{first}.weight"][:2]
    return Config(
        base_dim=base,
        decoder_base_dim=shapes[f"{last}.gamma"][0],
        z_dim=shapes["conv2.weight" if wan else "post_quant_conv.weight"][0],
        dim_mult=[width // base for width in widths],
        num_res_blocks=layers,
        temperal_downsample=in_time,
        in_channels=channels,
        out_channels=channels,
    )


_NAMES = ("encoder.down_blocks.{}.resnets.{}", "conv1")


def _recognise(header: Header) -> Found | None:
    found = find(header)
    return Found(found[0], {"vae": found[1:]}) if found is not None else None


def _wan(config: Config) -> Table:
    table = {"quant_conv": "conv1", "post_quant_conv": "conv2"}
    for half in ("encoder", "decoder"):
        table |= {
            f"{half}.conv_in": f"{half}.conv1",
            f"{half}.norm_out": f"{half}.head.0",
            f"{half}.conv_out": f"{half}.head.2",
            f"{half}.mid_block.attentions.0": f"{half}.middle.1",
        }
    for module, name, is_block in _modules(config):
        table[module] = name
        if is_block:
            table |= {f"{module}.{inner}": f"{name}.{other}" for inner, other in _BLOCK.items()}
    return table


_BLOCK = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}


def _modules(config: Config) -> Iterator[tuple[str, str, bool]]:
    """diffusers' name and Wan's name of each residual block and resampling, and whether it is a block."""
    levels = len(config.dim_mult)
    for half in ("encoder", "decoder"):
        yield f"{half}.mid_block.resnets.0", f"{half}.middle.0", True
        yield f"{half}.mid_block.resnets.1", f"{half}.middle.2", True
    for half, way in (("encoder", "down"), ("decoder", "up")):
        count = config.num_res_blocks + (half == "decoder")
        for level in range(levels):
            here, there = f"{half}.{way}_blocks.{level}", f"{half}.{way}samples.{level}.{way}samples"
            for layer in range(count):
                yield f"{here}.resnets.{layer}", f"{there}.{layer}", True
            if level < levels - 1:
                yield f"{here}.{way}sampler", f"{there}.{count}", False


_LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"wan": _wan, "diffusers": lambda config: {"": ""}}


def _latent(config: Config) -> LatentFormat:
    return LatentFormat(channels=config.z_dim, factor=2 ** (len(config.dim_mult) - 1))


QWEN21_VAE = Family(
    name="qwen21_vae",
    version="1",
    title="VAE of Qwen-Image 2.1",
    recognise=_recognise,
    parts={"vae": Part(build=f"{__name__}_network:build", layouts=_LAYOUTS, title="VAE", dtype="float32")},
    latent=_latent,
    network=f"{__name__}_network",
)
"""A kind of VAE: its latents are in its own unit."""
