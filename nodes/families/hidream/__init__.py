"""HiDream-I1 and E1 (arXiv 2505.22705): a transformer of 17 billion parameters whose tokens go through experts.

Its blocks see the text by T5 and by Llama 3.1, each block another layer of Llama; a pooled vector of CLIP-L and CLIP-G
stands beside the time. E1 edits an image that stands beside the latent; its tensors are those of I1. full, dev and fast
differ in nothing that a file shows. The answer is the negative velocity.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import clip, flow, language_model, t5
from ..kits.transformer_file import text_prefix

__all__ = ["HIDREAM", "LLAMA_LAYERS"]

PATCH = 2
HEAD = 128
"""Channels of a head in the published models; no shape shows it."""
LLAMA_LAYERS = 32
"""Layers of Llama 3.1 8B; the blocks behind the last see its states, too."""
ACTIVE_EXPERTS = 2
LARGEST = 128
"""Cells along a side for which the published models pad images that are no squares."""


def _read(shapes: Mapping[str, flow.Shape]) -> tuple[Config, str] | None:
    if "double_stream_blocks.0.block.adaLN_modulation.1.bias" not in shapes:
        return None
    double = flow.count(shapes, "double_stream_blocks.{}.block.adaLN_modulation.1.bias")
    single = flow.count(shapes, "single_stream_blocks.{}.block.adaLN_modulation.1.bias")
    width, patch = shapes["x_embedder.proj.weight"]
    config = Config(
        patch_size=PATCH,
        in_channels=patch // PATCH**2,
        out_channels=shapes["final_layer.linear.weight"][0] // PATCH**2,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=HEAD,
        num_attention_heads=width // HEAD,
        caption_channels=(
            shapes[f"caption_projection.{double + single}.linear.weight"][1],
            shapes["caption_projection.0.linear.weight"][1],
        ),
        text_emb_dim=shapes["p_embedder.pooled_embedder.linear_1.weight"][1],
        num_routed_experts=flow.count(shapes, "double_stream_blocks.0.block.ff_i.experts.{}.w1.weight"),
        num_activated_experts=ACTIVE_EXPERTS,
        axes_dims_rope=(HEAD // 2, HEAD // 4, HEAD // 4),
        max_resolution=(LARGEST, LARGEST),
        llama_layers=tuple(min(block, LLAMA_LAYERS - 1) for block in range(double + single)),
    )
    return config, "diffusers"


def _recognise(header: Header) -> Found | None:
    denoiser = flow.find(header, "HiDreamImageTransformer2DModel", _read)
    if denoiser is None:
        return None
    texts = {
        "text.l": clip.find(header, text_prefix("clip_l"), "text_encoder", projection=True),
        "text.g": clip.find(header, text_prefix("clip_g"), "text_encoder_2", projection=True),
        "text.t5": t5.find(header, text_prefix("t5xxl"), "text_encoder_3"),
        "text.llama": language_model.find_beside(header, "llama", "text_encoder_4"),
    }
    latent = {**flow.FLUX_LATENT, "channels": denoiser.config.in_channels}
    return flow.assemble(header, denoiser, texts, latent)


HIDREAM = Family(
    name="hidream",
    version="1",
    title="HiDream",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build",
            layouts={"diffusers": lambda config: {"": ""}},
            title="transformer",
            saved=("diffusers", "model.diffusion_model."),
        ),
        "text.l": clip.part_of("l", "transformers", "text_encoders.clip_l.transformer."),
        "text.g": clip.part_of("g", "transformers", "text_encoders.clip_g.transformer."),
        "text.t5": t5.PART,
        "text.llama": language_model.part_of("llama"),
    },
    latent=flow.latent_format,
    prediction=lambda config: Flow(3.0, unit=1000.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    keeps={"t5": 127},
    prompts={"hidream": [("g", "l", "llama", "t5")]},
    text_width=lambda config: int(config["text.t5"].d_model),
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.caption_channels[0])),
        "llama": Option("text", rank=3, width=lambda config: int(config.denoiser.caption_channels[1])),
        "pooled": Option("pooled", rank=1, width=lambda config: int(config.denoiser.text_emb_dim)),
        "concat": Option("latent"),
    },
    needs=frozenset({"text", "llama", "pooled"}),
    ports=Ports(blocks=("double_stream_blocks.*", "single_stream_blocks.*")),
    shares=False,  # how many tokens an expert sees depends on all rows of a pass
)
