"""Control-LoRAs: ControlNets whose weights are those of the U-Net that they steer, each with a low-rank change.

A file has `NAME.up` [out, r] and `NAME.down` [r, in, ...] for each changed weight, and whole tensors for what the U-Net
does not have (the way in of the hint, the ways out) or has otherwise. So the network exists only together with a model,
and takes its shapes from it. Names are those of Latent Diffusion's code.
"""

from __future__ import annotations

from dataclasses import replace

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.handles import ControlNet, Model
from ...model.latent import LatentFormat
from ...patches.control_lora import OverBase
from ..kits import unet
from . import layouts

__all__ = ["CONTROL_LORA"]

MARK, HINT = "lora_controlnet", "input_hint_block.0.weight"
OF_UNET = (
    "in_channels",
    "out_channels",
    "block_out_channels",
    "layers_per_block",
    "down_block_types",
    "up_block_types",
    "transformer_layers_per_block",
    "attention_head_dim",
    "cross_attention_dim",
    "use_linear_projection",
    "projection_class_embeddings_input_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "class_embed_type",
)
"""What a Control-LoRA takes over from the config of its U-Net."""


def _recognise(header: Header) -> Found | None:
    shapes = {name: info.shape for name, info in header.tensors.items()}
    if MARK not in shapes or HINT not in shapes:
        return None
    widths = [shapes[f"input_hint_block.{place}.weight"] for place in (0, 4, 8, 12)]
    key = next(name for name in shapes if name.endswith(".attn2.to_k.down"))
    denoiser = Config(
        conditioning_channels=widths[0][1],
        conditioning_embedding_out_channels=[shape[0] for shape in widths],
        rank=shapes[key][0],
        cross_attention_dim=shapes[key][1],
        widest=max(shape[0] for name, shape in shapes.items() if name.startswith("middle_block_out.")),
    )
    config = Config({"denoiser": denoiser, "latent": {"channels": 4, "factor": 8}})
    return Found(config, {"denoiser": ("ldm", "")}, f"rank {denoiser.rank}")


def _misfit(config: Config, model: Model) -> str:
    own, other = config.denoiser, model.config.get("denoiser")
    if not isinstance(other, Config) or model.family.ports.residuals != unet.PORTS.residuals:
        return f"it steers a U-Net of Stable Diffusion, which {model.family.title} does not have"
    for what, mine, its in (
        ("columns of the text", own.cross_attention_dim, other.cross_attention_dim),
        ("channels in the middle", own.get("widest"), other.block_out_channels[-1]),
    ):
        if mine is not None and mine != its:
            return f"it was made of another U-Net ({what}: {mine}, {model.family.title} has {its})"
    if other.in_channels != other.out_channels:
        return f"it was made of a model of images alone, {model.family.title} sees further channels"
    return ""


def _completed(control: ControlNet, model: Model) -> ControlNet:
    """The network of a model. Raises a Problem where the file has pairs that it has no weight for."""
    base = model.config.denoiser
    own = {name: base[name] for name in OF_UNET if name in base}
    hint = {name: control.config.denoiser[name] for name in ("conditioning_channels", HINT_WIDTHS)}
    config = control.config | {"denoiser": Config({**own, **hint})}
    source = control.source("denoiser")
    table = layouts.LAYOUTS["ldm"](config.denoiser)
    return replace(control, config=config).with_patch(OverBase(model, source, tuple(sorted(table.items()))))


HINT_WIDTHS = "conditioning_embedding_out_channels"
CONTROL_LORA = Family(
    name="control_lora",
    version="1",
    title="Control-LoRA",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__package__}.network:build",
            layouts={"ldm": layouts.LAYOUTS["ldm"]},
            title="Control-LoRA",
            unused=(MARK, "*.up", "*.down"),
            optional=("*",),
        )
    },
    latent=lambda config: LatentFormat(**config.latent),
    network=f"{__package__}.network",
    misfit=_misfit,
    completed=_completed,
)
