"""JoyImage Edit: images to edit and the image that is made as one sequence, asked with Qwen3-VL 8B that sees them, too.

Latents are those of Wan 2.1's VAE; all images of a row have one size. It takes 1000 sigma as time. Single
files have the names of diffusers.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import qwen3_vl, wan_vae
from ..kits.flow import add_parts
from ..kits.transformer_file import TransformerFile, transformer_in

__all__ = ["JOYIMAGE"]

PATCH = 2
_ARGUMENTS = ("rope_dim_list", "rope_type", "theta")


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    needed = ("double_blocks.0.attn.img_attn_qkv.weight", "condition_embedder.text_embedder.linear_1.weight")
    if not file.keys.has(*needed, "double_blocks.0.attn.img_attn_q_norm.weight", "img_in.weight"):
        return None
    denoiser = _config(file)
    return add_parts(
        Found(Config(denoiser=denoiser), {"denoiser": ("diffusers", file.prefix)}),
        {"text.qwen3vl": qwen3_vl.find(header)},
        wan_vae.find(header),
        lambda vae: vae.z_dim == denoiser.in_channels,
    )


def _config(file: TransformerFile) -> Config:
    """The arguments of JoyImageEditTransformer3DModel."""
    keys, stated = file.keys, file.stated or {}
    hidden, channels = keys.shape("img_in.weight")[:2]
    head = keys.rows("double_blocks.0.attn.img_attn_q_norm.weight")
    found = Config(
        patch_size=(1, PATCH, PATCH),
        in_channels=channels,
        hidden_size=hidden,
        num_attention_heads=hidden // head,
        text_dim=keys.columns("condition_embedder.text_embedder.linear_1.weight"),
        mlp_width_ratio=keys.rows("double_blocks.0.img_mlp.net.0.proj.weight") / hidden,
        num_layers=keys.count("double_blocks."),
        # Of 128 columns of a head 16, 56 and 56 turn with the place in images, rows and columns.
        rope_dim_list=(head // 8, head * 7 // 16, head * 7 // 16),
    )
    return found | {key: stated[key] for key in _ARGUMENTS if stated.get(key) is not None}


JOYIMAGE = Family(
    name="joyimage",
    version="1",
    title="JoyImage Edit",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build", layouts={"diffusers": lambda config: {"": ""}}, title="transformer"
        ),
        "text.qwen3vl": qwen3_vl.PART,
    },
    latent=lambda config: wan_vae.latent_of(config.denoiser.in_channels, PATCH),
    prediction=lambda config: Flow(1.5, unit=1000.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"joyimage": [("qwen3vl",)]},
    text_width=lambda config: int(config["text.qwen3vl"].text.hidden_size),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.text_dim)),
        "references": Option("latent"),
    },
    needs=frozenset({"text"}),
    ports=Ports(blocks=("double_blocks.*",)),
)
