"""HiDream I1 (full, dev, fast): a transformer with experts, asked with CLIP-L, CLIP-G, T5 and Llama 3.1.

Each of its blocks sees another layer of Llama. Latents are those of FLUX's VAE. It takes 1000 sigma as time and answers
with the negative velocity. Which experts answer depends on all rows of a pass, so rows never share one. Single files
have the names of diffusers.
"""

from __future__ import annotations

from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Option, Part, Ports
from ...model.prediction import Flow
from ..kits import clip, language_model, t5
from ..kits.flow import FLUX_LATENT, DenoiserFound, assemble, latent_format
from ..kits.transformer_file import TransformerFile, text_prefix, transformer_in

__all__ = ["HIDREAM", "LLAMA"]

LLAMA = "conditioning_llama3"
"""The option with the states of Llama's layers, [layers, T, D] (ComfyUI's name)."""
LAYERS = 32
"""Of Llama; blocks behind them see the last one."""
_ARGUMENTS = ("num_activated_experts", "axes_dims_rope", "max_resolution", "llama_layers", "patch_size", "in_channels")


def _recognise(header: Header) -> Found | None:
    file = transformer_in(header)
    if not file.keys.has("double_stream_blocks.0.block.adaLN_modulation.1.bias", "caption_projection.0.linear.weight"):
        return None
    texts = {
        "text.l": clip.find(header, text_prefix("clip_l"), "text_encoder", projection=True),
        "text.g": clip.find(header, text_prefix("clip_g"), "text_encoder_2", projection=True),
        "text.t5": t5.find(header, text_prefix("t5xxl"), "text_encoder_3"),
        "text.llama": language_model.find_beside(header, "llama", "text_encoder_4"),
    }
    if None in texts.values():  # only all four together encode a prompt
        texts = {}
    return assemble(header, DenoiserFound(_config(file), "diffusers", file.prefix), texts, FLUX_LATENT)


def _config(file: TransformerFile) -> Config:
    """The arguments of HiDreamImageTransformer2DModel."""
    keys, stated = file.keys, file.stated or {}
    hidden, patch = keys.shape("x_embedder.proj.weight")
    double, single = keys.count("double_stream_blocks."), keys.count("single_stream_blocks.")
    experts = keys.rows("double_stream_blocks.0.block.ff_i.gate.weight")
    last = f"caption_projection.{double + single}.linear.weight"
    head = stated.get("attention_head_dim") or _HEAD
    found = Config(
        patch_size=2,
        in_channels=patch // 4,
        out_channels=keys.rows("final_layer.linear.weight") // 4,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head,
        num_attention_heads=hidden // head,
        caption_channels=(keys.columns(last), keys.columns("caption_projection.0.linear.weight")),
        text_emb_dim=keys.columns("p_embedder.pooled_embedder.linear_1.weight"),
        num_routed_experts=experts,
        num_activated_experts=max(1, experts // 2),
        axes_dims_rope=(head // 2, head // 4, head // 4),
        max_resolution=(128, 128),
        llama_layers=tuple(min(number, LAYERS - 1) for number in range(double + single)),
    )
    return found | {key: stated[key] for key in _ARGUMENTS if stated.get(key) is not None}


_HEAD = 128

HIDREAM = Family(
    name="hidream",
    version="1",
    title="HiDream I1",
    recognise=_recognise,
    parts={
        "denoiser": Part(
            build=f"{__name__}.network:build", layouts={"diffusers": lambda config: {"": ""}}, title="transformer"
        ),
        "text.l": clip.part_of("l", "transformers", "text_encoders.clip_l.transformer."),
        "text.g": clip.part_of("g", "transformers", "text_encoders.clip_g.transformer."),
        "text.t5": t5.PART,
        "text.llama": language_model.part_of("llama"),
    },
    latent=latent_format,
    prediction=lambda config: Flow(3.0, unit=1000.0),
    network=f"{__name__}.network",
    text=f"{__name__}.text",
    prompts={"hidream": [("g", "l", "llama", "t5")]},
    takes={
        "text": Option("text", rank=2, width=lambda config: int(config.denoiser.caption_channels[0])),
        "pooled": Option("pooled", rank=1, width=lambda config: int(config.denoiser.text_emb_dim)),
        LLAMA: Option("text", rank=3, width=lambda config: int(config.denoiser.caption_channels[1])),
    },
    needs=frozenset({"text", "pooled", LLAMA}),
    ports=Ports(blocks=("double_stream_blocks.*", "single_stream_blocks.*")),
    shares=False,
)
