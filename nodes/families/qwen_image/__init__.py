"""Qwen-Image and its kin: 2512, Edit, 2509, 2511, Layered (arXiv 2508.02324).

A transformer over squares of 2 x 2 cells of the latent, asked with the states of Qwen2.5-VL. Images to edit stand
beside the latent as further tokens. Two things in a file tell its kin apart: Edit 2511 carries the tensor
`__index_timestep_zero__` (its reference images are asked about at time 0), Layered an embedding of a further condition
(its latents have an axis of layers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.header import Header
from ...files.quantised import weights_of
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import FluxFlow
from ..kits import qwen25_vl, wan_vae

__all__ = ["QWEN_IMAGE"]

PREFIXES = ("", "model.diffusion_model.", "model.model.", "net.", "model.")
ZERO_TIME = "__index_timestep_zero__"
LAYERED = "time_text_embed.addition_t_embedding.weight"
MU = 1.15
PATCH = 2
_ARGUMENTS = (
    "patch_size",
    "in_channels",
    "out_channels",
    "num_layers",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "axes_dims_rope",
    "zero_cond_t",
    "use_additional_t_cond",
    "use_layer3d_rope",
)


def _recognise(header: Header) -> Found | None:
    found = _denoiser(header)
    if found is None:
        return None
    denoiser, prefix = found
    configs: dict[str, Any] = {"denoiser": denoiser}
    parts = {"denoiser": ("diffusers", prefix)}
    text = qwen25_vl.find(header)
    if text is not None:
        configs["text.qwen25vl"] = text.config
        parts["text.qwen25vl"] = (text.layout, text.prefix)
    vae = wan_vae.find(header)
    if vae is not None and vae[0].z_dim == denoiser.out_channels:
        configs["vae"], parts["vae"] = vae[0], vae[1:]
    return Found(Config(configs), parts, _variant(denoiser))


def _denoiser(header: Header) -> tuple[Config, str] | None:
    for part in ("transformer", ""):
        stated = header.configs.get(part)
        if stated is not None and stated.get("_class_name") == "QwenImageTransformer2DModel":
            return _from_json(stated), f"{part}/" if part else ""
    shapes = {name: info.shape for name, info in weights_of(header).items()}
    for prefix in PREFIXES:
        if f"{prefix}txt_norm.weight" in shapes and f"{prefix}transformer_blocks.0.img_mod.1.weight" in shapes:
            inside = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
            return _from_shapes(inside, ZERO_TIME in header.tensors or prefix + ZERO_TIME in header.tensors), prefix
    return None


def _from_json(stated: Mapping[str, Any]) -> Config:
    """The config of a diffusers folder; what it leaves out has the value of the released models."""
    found = {
        "patch_size": PATCH,
        "in_channels": 64,
        "out_channels": 16,
        "num_layers": 60,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 3584,
        "axes_dims_rope": (16, 56, 56),
        "zero_cond_t": False,
        "use_additional_t_cond": False,
        "use_layer3d_rope": False,
    }
    return Config({**found, **{name: stated[name] for name in _ARGUMENTS if stated.get(name) is not None}})


def _from_shapes(shapes: Mapping[str, tuple[int, ...]], zero_time: bool) -> Config:
    layers = 0
    while f"transformer_blocks.{layers}.img_mod.1.weight" in shapes:
        layers += 1
    width, channels = shapes["img_in.weight"]
    head = shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    layered = LAYERED in shapes
    return Config(
        patch_size=PATCH,
        in_channels=channels,
        out_channels=shapes["proj_out.weight"][0] // PATCH**2,
        num_layers=layers,
        attention_head_dim=head,
        num_attention_heads=width // head,
        joint_attention_dim=shapes["txt_norm.weight"][0],
        # Of 128 columns of a head 16, 56 and 56 turn with the place in layers, rows and columns.
        axes_dims_rope=(head // 8, head * 7 // 16, head * 7 // 16),
        zero_cond_t=zero_time,
        use_additional_t_cond=layered,
        use_layer3d_rope=layered,
    )


def _variant(denoiser: Config) -> str:
    return "Layered" if denoiser.use_layer3d_rope else "Edit 2511" if denoiser.zero_cond_t else ""


QWEN_IMAGE = Family(
    name="qwen_image",
    version="1",
    title="Qwen-Image",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"diffusers": lambda config: {"": ""}},
            title="transformer",
            unused=(ZERO_TIME,),
        ),
        "text.qwen25vl": qwen25_vl.PART,
    },
    latent=lambda config: wan_vae.latent_of(config.denoiser.out_channels, PATCH),
    prediction=lambda config: FluxFlow(MU),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"": [("qwen25vl",)]},
    text_width=lambda config: int(config["text.qwen25vl"].text.hidden_size),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.joint_attention_dim)),
        "references": Option("latent"),
        "reference_method": Option("text"),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("transformer_blocks.*",), attentions=("transformer_blocks.*.attn",), residuals=("block.*",)),
)
