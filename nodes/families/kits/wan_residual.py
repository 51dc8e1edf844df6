"""The residual form of Wan's VAE (Wan 2.2, Qwen-Image 2.1): its config from shapes, and its tables. Imports no torch.

In Wan's own names the blocks of a level lie in lists of their own. Layouts: `wan` and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config

__all__ = ["LAYOUTS", "find"]

Shape = tuple[int, ...]
PREFIXES = ("vae.", "first_stage_model.", "")


def find(header: Header, class_name: str) -> tuple[Config, str, str] | None:
    """Config, layout and prefix of the VAE of a file, or of a folder whose config states `class_name`; None where there
    is none."""
    for part in ("vae", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == class_name:
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
    if "decoder.upsamples.0.upsamples.0.residual.2.weight" in shapes:
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


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"wan": _wan, "diffusers": lambda config: {"": ""}}
