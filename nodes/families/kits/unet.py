"""The U-Net of Stable Diffusion: its config from the shapes in a file, and its table. Imports no torch.

Configs are the arguments of diffusers' UNet2DConditionModel. Layouts: `ldm` (the names of Latent Diffusion's code, as
in checkpoints) and `diffusers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Ports

__all__ = [
    "LAYOUTS",
    "PORTS",
    "PREFIXES",
    "SIZE_WIDTH",
    "UNUSED",
    "UnetFound",
    "diffusers_config",
    "encoder_config",
    "find",
    "from_json",
    "is_refiner",
    "ldm_config",
    "ldm_table",
    "modules",
    "residual_block",
    "takes_sizes",
]

Shape = tuple[int, ...]
SIZE_WIDTH = 256
"""Sines and cosines for each of the sizes that SDXL takes."""


PREFIXES = ("model.diffusion_model.", "", "model.model.", "net.", "model.")
IN_TIME = "input_blocks.1.0.time_stack.in_layers.2.weight"
"""A U-Net of videos has this beside what those of images have (families/svd)."""
UNUSED = ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.*")
"""The tensors that state a prediction, beside the weights."""
_DEFAULTS = {"in_channels": 4, "out_channels": 4, "layers_per_block": 2, "use_linear_projection": False}


@dataclass(frozen=True, slots=True)
class UnetFound:
    """A U-Net in a file or a folder."""

    config: Config
    layout: str
    prefix: str


def find(header: Header) -> UnetFound | None:
    """The U-Net of a checkpoint, a file of its own or a diffusers folder; None where there is none."""
    for part in ("unet", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == "UNet2DConditionModel":
            return UnetFound(from_json(stated), "diffusers", f"{part}/" if part else "")
    for prefix in PREFIXES:
        shapes = {name[len(prefix) :]: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}
        for layout, read in (("ldm", ldm_config), ("diffusers", diffusers_config)):
            config = read(shapes)
            if config is not None and IN_TIME not in shapes:
                return UnetFound(config, layout, prefix)
    return None


def encoder_config(layout: str, shapes: Mapping[str, Shape]) -> Config | None:
    """The config of a U-Net of which only the half that goes down and the middle are there, as in a ControlNet."""
    read, entry, exit = {
        "ldm": (ldm_config, "input_blocks.0.0.weight", "out.2.weight"),
        "diffusers": (diffusers_config, "conv_in.weight", "conv_out.weight"),
    }[layout]
    shape = shapes.get(entry, ())
    return read({**shapes, exit: (shape[1],)}) if len(shape) == 4 else None


def takes_sizes(config: Config) -> bool:
    """SDXL and its refiner take sizes of the image as numbers."""
    return config.get("addition_embed_type") == "text_time"


def is_refiner(config: Config) -> bool:
    """SDXL's refiner has four levels, SDXL itself three."""
    return takes_sizes(config) and len(config.block_out_channels) > 3


def ldm_config(shapes: Mapping[str, Shape]) -> Config | None:
    """The config of a U-Net in LDM names; None where it is none."""
    if "input_blocks.0.0.weight" not in shapes or "out.2.weight" not in shapes:
        return None
    levels: list[list[int]] = [[]]
    """The depth of the transformer of each residual block, 0 without one; a list for each level."""
    widths: list[int] = []
    number = 1
    while any(f"input_blocks.{number}.0.{name}" in shapes for name in ("op.weight", "in_layers.2.weight")):
        block = f"input_blocks.{number}"
        if f"{block}.0.op.weight" in shapes:
            levels.append([])
        else:
            levels[-1].append(_depth(shapes, f"{block}.1."))
            widths[len(levels) - 1 :] = [shapes[f"{block}.0.in_layers.2.weight"][0]]
        number += 1
    if not all(levels):
        return None
    return _config(
        shapes=shapes,
        widths=widths,
        depths=[level[0] for level in levels],
        layers=len(levels[0]),
        middle=_depth(shapes, "middle_block.1."),
        channels=(shapes["input_blocks.0.0.weight"][1], shapes["out.2.weight"][0]),
        classes=shapes.get("label_emb.0.0.weight"),
    )


def diffusers_config(shapes: Mapping[str, Shape]) -> Config | None:
    """The config of a U-Net in diffusers' names, where no config.json lies beside it; None where it is none."""
    if not all(
        name in shapes for name in ("down_blocks.0.resnets.0.conv1.weight", "conv_in.weight", "conv_out.weight")
    ):
        return None
    count = _count(shapes, "down_blocks.{}.resnets.0.conv1.weight")
    added = "add_embedding.linear_1.weight"
    return _config(
        shapes=shapes,
        widths=[shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(count)],
        depths=[_depth(shapes, f"down_blocks.{level}.attentions.0.") for level in range(count)],
        layers=_count(shapes, "down_blocks.0.resnets.{}.conv1.weight"),
        middle=_depth(shapes, "mid_block.attentions.0."),
        channels=(shapes["conv_in.weight"][1], shapes["conv_out.weight"][0]),
        classes=shapes.get(added, shapes.get("class_embedding.linear_1.weight")),
    )


def from_json(stated: Mapping[str, Any]) -> Config:
    """The config of a diffusers folder, without what its class says of itself."""
    return Config({**_DEFAULTS, **{key: value for key, value in stated.items() if not key.startswith("_")}})


def _config(
    shapes: Mapping[str, Shape],
    widths: list[int],
    depths: list[int],
    layers: int,
    middle: int,
    channels: tuple[int, int],
    classes: Shape | None,
) -> Config:
    projection = next((shape for name, shape in shapes.items() if name.endswith(".proj_in.weight")), ())
    context = next((shape for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")), (0, 0))[1]
    linear = len(projection) == 2
    # Stable Diffusion 1.x has 8 heads at every level, all later ones have heads of 64 channels.
    heads = [max(1, width // 64) if linear else 8 for width in widths]
    found: dict[str, Any] = {
        "in_channels": channels[0],
        "out_channels": channels[1],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        # The middle block takes the last number; a level without transformers takes none.
        "transformer_layers_per_block": [*(depth or 1 for depth in depths[:-1]), depths[-1] or middle or 1],
        "attention_head_dim": heads,
        "cross_attention_dim": context,
        "use_linear_projection": linear,
    }
    if classes is not None:
        found["projection_class_embeddings_input_dim"] = classes[1]
        if max(depths) > 1:
            found |= {"addition_embed_type": "text_time", "addition_time_embed_dim": SIZE_WIDTH}
        else:
            found["class_embed_type"] = "projection"
    return Config(found)


def _depth(shapes: Mapping[str, Shape], attention: str) -> int:
    return _count(shapes, attention + "transformer_blocks.{}.norm1.weight")


def _count(shapes: Mapping[str, Shape], name: str) -> int:
    count = 0
    while name.format(count) in shapes:
        count += 1
    return count


def ldm_table(config: Config) -> Table:
    """Where each module lies in a file with LDM names."""
    table: dict[str, TensorPlace | str] = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    for embedding in ("add_embedding", "class_embedding"):
        table |= {f"{embedding}.linear_1": "label_emb.0.0", f"{embedding}.linear_2": "label_emb.0.2"}
    for module, name in modules(config):
        table |= residual_block(module, name) if ".resnets." in module else {module: name}
    return table


def residual_block(module: str, name: str) -> dict[str, str]:
    """Where the layers of a residual block lie in a file with LDM names."""
    return {
        f"{module}.norm1": f"{name}.in_layers.0",
        f"{module}.conv1": f"{name}.in_layers.2",
        f"{module}.time_emb_proj": f"{name}.emb_layers.1",
        f"{module}.norm2": f"{name}.out_layers.0",
        f"{module}.conv2": f"{name}.out_layers.3",
        f"{module}.conv_shortcut": f"{name}.skip_connection",
    }


def modules(config: Config) -> Iterator[tuple[str, str]]:
    """diffusers' name and LDM's name of each residual block, transformer and resampling."""
    layers, levels = config.layers_per_block, len(config.block_out_channels)
    number = 1
    for level, kind in enumerate(config.down_block_types):
        for layer in range(layers):
            yield f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0"
            if kind.startswith("CrossAttn"):
                yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1"
            number += 1
        if level < levels - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
            number += 1
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", "middle_block.2"
    number = 0
    for level, kind in enumerate(config.up_block_types):
        crossed = kind.startswith("CrossAttn")
        for layer in range(layers + 1):
            yield f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0"
            if crossed:
                yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{number}.1"
            if layer == layers and level < levels - 1:
                yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{number}.{1 + crossed}.conv"
            number += 1


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {"ldm": ldm_table, "diffusers": lambda config: {"": ""}}
PORTS = Ports(
    blocks=("down_blocks.*", "mid_block", "up_blocks.*"),
    attentions=("*.attn1", "*.attn2"),
    residuals=("down.*", "mid", "inner.*"),
)
"""Where patches may act: patterns of names of modules, and of what controls add: to the output of each block going down
on its way to the other half, counted from 0 (the first convolution), and to the middle (ControlNet); or to what leaves
each level going down, on both ways (T2I-Adapter)."""
