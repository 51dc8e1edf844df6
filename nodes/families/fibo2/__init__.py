"""FIBO 2 of Bria (2026): 8 billion parameters, asked with structured captions of Qwen3-VL 4B.

Some tokens that a perceiver draws from the text stand before the image (the longer the text, the more); five blocks
read the text itself as well. Images to edit are further tokens without noise. The latents are those of FLUX.2's VAE, a
square of 2 x 2 cells (16 x 16 pixels) a token. Rectified flow. Files have the names of diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import FluxFlow
from ..kits import flow, qwen3_vl

__all__ = ["BUNDLES", "FIBO2", "LATENT"]

LATENT = {"channels": 128, "factor": 16}
MU = 1.15
"""At a million pixels; ModelSamplingFlux sets it for other sizes."""
BUNDLES = ((9, 20, 31), (5, 16, 27), (7, 18, 29), (9, 20, 31), (11, 22, 33), (13, 24, 35))
"""The layers of the text encoder that the perceiver reads, side by side, and then those that each of the five blocks
reads."""


def _read(shapes: Mapping[str, flow.Shape]) -> tuple[Config, str] | None:
    needed = ("perceiver.latent_queries", "layers.0.attention.norm_q.weight", "noise_refiner.0.attention.to_q.weight")
    if any(name not in shapes for name in needed):
        return None
    width, columns = shapes["x_embedder.weight"]
    head = shapes["layers.0.attention.norm_q.weight"][0]
    layers = flow.count(shapes, "layers.{}.attention_norm1.weight")
    most = shapes["perceiver.latent_queries"][0]
    config = Config(
        in_channels=columns // 4,
        dim=width,
        n_layers=layers,
        n_refiner_layers=flow.count(shapes, "noise_refiner.{}.attention_norm1.weight"),
        n_heads=width // head,
        norm_eps=1e-5,
        cap_feat_dim=shapes["perceiver.layers.0.cross_attention.to_k.weight"][1],
        injection_layer_ids=tuple(n for n in range(layers) if f"layers.{n}.cross_attn_gate" in shapes),
        perceiver_num_layers=flow.count(shapes, "perceiver.layers.{}.ffn_norm.weight"),
        # As of the published one: 256 to 512 tokens, by 64, for texts of 256 to 2048 tokens.
        min_num_gist_tokens=most // 2,
        max_num_gist_tokens=most,
        gist_step=most // 8,
        gist_min_text_len=256,
        gist_max_text_len=2048,
        rope_theta=256.0,
        t_scale=1000.0,
        # Of 128 columns of a head 32, 48 and 48 turn with the plane, the row and the column.
        axes_dims=(head // 4, (head - head // 4) // 2, (head - head // 4) // 2),
    )
    return config, "diffusers"


def _recognise(header: Header) -> Found | None:
    denoiser = flow.find(header, "BriaFibo2Transformer2DModel", _read)
    if denoiser is None:
        return None
    return flow.assemble(header, denoiser, {"text.qwen3vl": qwen3_vl.find(header)}, LATENT)


def _width(config: Config) -> int:
    """Of a text: all bundles of a token side by side."""
    return (1 + len(config.denoiser.injection_layer_ids)) * int(config.denoiser.cap_feat_dim)


FIBO2 = Family(
    name="fibo2",
    version="1",
    title="FIBO 2",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"diffusers": lambda config: {"": ""}},
            title="transformer",
            saved=("diffusers", "model.diffusion_model."),
        ),
        "text.qwen3vl": qwen3_vl.PART,
    },
    latent=flow.latent_format,
    prediction=lambda config: FluxFlow(MU),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"fibo2": [("qwen3vl",)]},
    text_width=lambda config: sum(map(len, BUNDLES)) * int(config["text.qwen3vl"].text.hidden_size),
    takes={"text": Option("text", rank=2, width=_width), "references": Option("latent")},
    needs=frozenset({"text"}),
    ports=Ports(blocks=("noise_refiner.*", "layers.*")),
)
