"""ERNIE-Image and Turbo of Baidu: text and image as one sequence, asked with Ministral 3 3B.

Latents are those of FLUX.2's VAE. A cell of the latent (16 x 16 pixels) is a token. Single
files have the names of diffusers.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..flux2 import LATENT
from ..kits import language_model
from ..kits.flow import DenoiserFound, assemble, latent_format
from ..kits.transformer_file import TransformerFile, transformer_in

__all__ = ["ERNIE_IMAGE"]

_ENCODER = "ministral3"
_ARGUMENTS = ("rope_theta", "rope_axes_dim", "eps")


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    if not file.keys.has("layers.0.mlp.linear_fc2.weight", "adaLN_modulation.1.weight", "x_embedder.proj.weight"):
        return None
    text = language_model.find_beside(header, _ENCODER)
    place = DenoiserFound(_config(file), "diffusers", file.prefix)
    return assemble(header, place, {f"text.{_ENCODER}": text}, LATENT)


def _config(file: TransformerFile) -> Config:
    """The arguments of ErnieImageTransformer2DModel."""
    keys, stated = file.keys, file.stated or {}
    hidden, channels = keys.shape("x_embedder.proj.weight")[:2]
    head = keys.rows("layers.0.self_attention.norm_q.weight")
    found = Config(
        hidden_size=hidden,
        num_attention_heads=hidden // head,
        num_layers=keys.count("layers."),
        ffn_hidden_size=keys.rows("layers.0.mlp.gate_proj.weight"),
        in_channels=channels,
        out_channels=keys.rows("final_linear.weight"),
        patch_size=1,
        text_in_dim=keys.columns("text_proj.weight") or hidden,  # of equal width it needs no projection
        # Of 128 columns of a head 32, 48 and 48 turn with the place in the text, rows and columns.
        rope_axes_dim=(head // 4, head * 3 // 8, head * 3 // 8),
    )
    return found | {key: stated[key] for key in _ARGUMENTS if stated.get(key) is not None}


ERNIE_IMAGE = Family(
    name="ernie_image",
    version="1",
    title="ERNIE-Image",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build", layouts={"diffusers": lambda config: {"": ""}}, title="transformer"
        ),
        f"text.{_ENCODER}": language_model.part_of(_ENCODER),
    },
    latent=latent_format,
    prediction=lambda config: Flow(3.0, unit=1000.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"*": [(_ENCODER,)]},
    text_width=lambda config: int(config[f"text.{_ENCODER}"].hidden_size),
    takes={"text": Option("text", rank=2, width=lambda config: int(config.denoiser.text_in_dim))},
    needs=frozenset({"text"}),
    ports=Ports(blocks=("layers.*",)),
)
