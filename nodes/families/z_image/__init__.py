"""Z-Image and Z-Image Turbo (arXiv 2511.22699): 6 billion parameters, text states of Qwen3 4B, latents of FLUX's VAE.

Text and image are one sequence; both are padded to a multiple of 32 tokens with learned tokens. The network takes
1 - sigma as time and answers with the negative velocity. Turbo has the same tensors, so a file does not show which it
is.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow, Prediction
from ..kits import flow, language_model
from ..kits.next_dit import blocks, fused, sizes

__all__ = ["Z_IMAGE"]

SHIFT = 3.0
ORIGINAL = {
    "caption": "cap_embedder.1",
    "image": "x_embedder",
    "attention": "attention",
    "k_norm": "k_norm",
    "w1": "w1",
}
DIFFUSERS = {**ORIGINAL, "image": "all_x_embedder.2-1", "k_norm": "norm_k"}
ENCODER = "text.qwen3"


def _read(shapes: Mapping[str, flow.Shape]) -> tuple[Config, str] | None:
    # Lumina 2 and Ming have no tokens for padding; the Omni variant sees images as well, which is not supported.
    if not {"x_pad_token", "cap_pad_token"} <= shapes.keys() or "siglip_embedder.0.weight" in shapes:
        return None
    original = "x_embedder.weight" in shapes
    found = sizes(shapes, original=original, names=ORIGINAL if original else DIFFUSERS)
    if found is None:
        return None
    quarter = found.head_dim // 4
    config = Config(
        in_channels=found.channels,
        dim=found.dim,
        n_layers=found.layers,
        n_refiner_layers=found.refiners,
        n_heads=found.heads,
        n_kv_heads=found.kv_heads,
        cap_feat_dim=found.text,
        axes_dims=(quarter, (found.head_dim - quarter) // 2, (found.head_dim - quarter) // 2),
        rope_theta=256.0,
        t_scale=1000.0,
        norm_eps=1e-5,
    )
    return config, "original" if original else "diffusers"


def _recognise(header: Header) -> Found | None:
    denoiser = flow.find(header, "ZImageTransformer2DModel", _read)
    if denoiser is None:
        return None
    latent = {**flow.FLUX_LATENT, "channels": denoiser.config.in_channels}
    return flow.assemble(header, denoiser, {ENCODER: language_model.find_beside(header, "qwen3")}, latent)


def _original(config: Config) -> Table:
    table: dict[str, TensorPlace | str] = {
        "": "",
        "all_x_embedder.2-1": "x_embedder",
        "all_final_layer.2-1": "final_layer",
    }
    for block, _ in blocks(config.n_layers, config.n_refiner_layers):
        attention = f"{block}.attention"
        table |= fused(attention, f"{attention}.qkv", config.dim, config.dim)
        table |= {
            f"{attention}.norm_q": f"{attention}.q_norm",
            f"{attention}.norm_k": f"{attention}.k_norm",
            f"{attention}.to_out.0": f"{attention}.out",
        }
    return table


def _prediction(config: Config) -> Prediction:
    return Flow(SHIFT)


Z_IMAGE = Family(
    name="z_image",
    version="1",
    title="Z-Image",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"original": _original, "diffusers": lambda config: {"": ""}},
            title="transformer",
            unused=("norm_final.weight",),
            saved=("original", "model.diffusion_model."),
        ),
        ENCODER: language_model.part_of("qwen3"),
    },
    latent=flow.latent_format,
    prediction=_prediction,
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"": [("qwen3",)]},
    text_width=lambda config: int(config["text.qwen3"].hidden_size),
    takes={"text": Option("text", rank=2, width=lambda config: int(config.denoiser.cap_feat_dim))},
    needs=frozenset({"text"}),
    ports=Ports(blocks=("noise_refiner.*", "context_refiner.*", "layers.*"), residuals=("layer.*",)),
)
