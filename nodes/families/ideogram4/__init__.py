"""Ideogram 4 (2026): two transformers of 9 billion parameters, one for the prompt and one for guidance away from it.

Text and image are one sequence; the second network is asked with the image alone (DualModelGuider). Both are asked with
13 layers of Qwen3-VL 8B. The latents are those of FLUX.2's VAE, 16 x 16 pixels a cell. The network takes 1 - sigma as
time and answers with the negative velocity.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import flow, qwen3_vl
from ..kits.next_dit import fused

__all__ = ["IDEOGRAM4", "LATENT"]

LATENT = {"channels": 128, "factor": 16}
THETA = 5_000_000


def _read(shapes: Mapping[str, flow.Shape]) -> tuple[Config, str] | None:
    if "embed_image_indicator.weight" not in shapes or "llm_cond_proj.weight" not in shapes:
        return None
    original = "layers.0.attention.qkv.weight" in shapes
    norm = next(name for name in ("norm_q", "q_norm") if f"layers.0.attention.{name}.weight" in shapes)
    width, channels = shapes["input_proj.weight"]
    head = shapes[f"layers.0.attention.{norm}.weight"][0]
    third = head * 5 // 64  # 24, 20 and 20 of the 128 turns of a head are those of the three axes, the rest the first's
    config = Config(
        in_channels=channels,
        num_layers=flow.count(shapes, "layers.{}.attention_norm1.weight"),
        attention_head_dim=head,
        num_attention_heads=width // head,
        intermediate_size=shapes["layers.0.feed_forward.w1.weight"][0],
        adaln_dim=shapes["adaln_proj.weight"][0],
        llm_features_dim=shapes["llm_cond_proj.weight"][1],
        rope_theta=THETA,
        mrope_section=(head // 4 - 2 * third, third, third),
        norm_eps=1e-5,
    )
    return config, f"original_{norm}" if original else "diffusers"


def _recognise(header: Header) -> Found | None:
    denoiser = flow.find(header, "Ideogram4Transformer2DModel", _read)
    if denoiser is None:
        return None
    return flow.assemble(header, denoiser, {"text.qwen3vl": qwen3_vl.find(header)}, LATENT)


def _original(config: Config, norm: str) -> Table:
    table: dict[str, TensorPlace | str] = {"": ""}
    width = config.num_attention_heads * config.attention_head_dim
    for number in range(config.num_layers):
        attention = f"layers.{number}.attention"
        table |= fused(attention, f"{attention}.qkv", width, width)
        table[f"{attention}.to_out.0"] = f"{attention}.o"
        if norm == "q_norm":
            table |= {f"{attention}.norm_q": f"{attention}.q_norm", f"{attention}.norm_k": f"{attention}.k_norm"}
    return table


IDEOGRAM4 = Family(
    name="ideogram4",
    version="1",
    title="Ideogram 4",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={
                "original_norm_q": lambda config: _original(config, "norm_q"),
                "original_q_norm": lambda config: _original(config, "q_norm"),
                "diffusers": lambda config: {"": ""},
            },
            title="transformer",
            saved=("diffusers", "model.diffusion_model."),
        ),
        "text.qwen3vl": qwen3_vl.PART,
    },
    latent=flow.latent_format,
    prediction=lambda config: Flow(1.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"ideogram4": [("qwen3vl",)]},
    text_width=lambda config: 13 * int(config["text.qwen3vl"].text.hidden_size),
    takes={"text": Option("text", rank=2, width=lambda config: int(config.denoiser.llm_features_dim))},
    ports=Ports(blocks=("layers.*",)),
)
