"""Which text encoder, image encoder or VAE a file is."""

from __future__ import annotations

from .keys import Keys, Rule

__all__ = ["ENCODERS", "IMAGE_ENCODERS", "VAES", "without_language_prefix"]


def _k(width: int) -> str:
    return {1024: "0.6B", 2048: "2B (Ovis 2.5)", 2560: "4B", 4096: "8B"}.get(width, f"{width} wide")


def _norm(keys: Keys, name: str = "model.layers.0.post_attention_layernorm.weight") -> int:
    return keys.rows(name)


def _queries(keys: Keys) -> float:
    """The width of all queries together, in widths of the model: narrow versions of a model keep it. 0 with norms of
    queries, of which Mistral and Llama have none."""
    if keys.has("model.layers.0.self_attn.q_norm.weight"):
        return 0.0
    return keys.rows("model.layers.0.self_attn.q_proj.weight") / (_norm(keys) or 1)


def _clip(layer: int, path: str = "text_model.encoder.layers.{}.mlp.fc1.weight") -> str:
    return path.format(layer)


def without_language_prefix(keys: Keys) -> Keys:
    """Files of whole models with vision call their language part `model.language_model.` or `language_model.model.`."""
    for prefix in ("language_model.model.", "model.language_model."):
        if keys.starts(f"{prefix}layers.0.self_attn."):
            inside = keys.under(prefix).tensors
            others = {name: info for name, info in keys.tensors.items() if not name.startswith(prefix)}
            return Keys({**others, **{f"model.{name}": info for name, info in inside.items()}})
    return keys


_POST = "model.layers.0.post_attention_layernorm.weight"
_HAS_QK_NORM = ("model.layers.0.self_attn.q_norm.weight", _POST)
_DENSE = "encoder.block.{}.layer.1.DenseReluDense.{}.weight"

ENCODERS: tuple[Rule, ...] = (
    Rule("CLIP-G", (_clip(30),)),
    Rule("CLIP-H", (_clip(22),)),
    Rule("CLIP-L", (_clip(0),)),
    Rule(
        "CLIP-L",
        ("encoder.layers.0.mlp.fc1.weight", "embeddings.token_embedding.weight"),
        lambda keys: keys.columns("embeddings.token_embedding.weight") == 768,
    ),
    Rule(
        "CLIP-H",
        ("encoder.layers.0.mlp.fc1.weight", "embeddings.token_embedding.weight"),
        lambda keys: keys.columns("embeddings.token_embedding.weight") == 1024,
    ),
    Rule(
        "CLIP-G", ("transformer.resblocks.30.ln_1.weight", "token_embedding.weight"), variant=lambda keys: "open_clip"
    ),
    Rule(
        "CLIP-H", ("transformer.resblocks.22.ln_1.weight", "token_embedding.weight"), variant=lambda keys: "open_clip"
    ),
    Rule("CLIP-L", ("transformer.resblocks.0.ln_1.weight", "token_embedding.weight"), variant=lambda keys: "open_clip"),
    Rule(
        "UMT5-XXL", (_DENSE.format(23, "wi_1"), "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight")
    ),
    Rule("T5-XXL", (_DENSE.format(23, "wi_1"),), lambda keys: keys.rows(_DENSE.format(23, "wi_1")) == 10240),
    Rule("T5-XL", (_DENSE.format(23, "wi_1"),)),
    Rule("T5-XXL v1.0", (_DENSE.format(23, "wi"),)),
    Rule(
        "ByT5-small glyph",
        ("encoder.block.0.layer.0.SelfAttention.k.weight",),
        lambda keys: keys.rows("encoder.block.0.layer.0.SelfAttention.k.weight") == 384,
    ),
    Rule("T5-base", ("encoder.block.0.layer.0.SelfAttention.k.weight",)),
    Rule("T5-XXL", ("enc.blk.23.ffn_up.weight",), variant=lambda keys: "llama.cpp names"),
    Rule(
        "Gemma 4",
        ("model.layers.0.post_feedforward_layernorm.weight", "model.layers.0.self_attn.q_norm.weight"),
        lambda keys: not keys.has("model.layers.5.self_attn.v_proj.weight"),
    ),
    Rule(
        "Gemma 3 12B",
        ("model.layers.0.post_feedforward_layernorm.weight", "model.layers.0.self_attn.q_norm.weight"),
        lambda keys: keys.count("model.layers.") == 48,
        lambda keys: "with vision" if keys.contains("vision_model") else "",
    ),
    Rule(
        "Gemma 3 4B",
        ("model.layers.0.post_feedforward_layernorm.weight", "model.layers.0.self_attn.q_norm.weight"),
        variant=lambda keys: "with vision" if keys.contains("vision_model") else "",
    ),
    Rule("Gemma 2 2B", ("model.layers.0.post_feedforward_layernorm.weight",)),
    Rule(
        "Qwen2.5 3B",
        ("model.layers.0.self_attn.k_proj.bias",),
        lambda keys: keys.rows("model.layers.0.self_attn.k_proj.bias") == 256,
    ),
    Rule(
        "Qwen2.5-VL 7B",
        ("model.layers.0.self_attn.k_proj.bias",),
        variant=lambda keys: "" if keys.starts("visual.", "model.visual.") else "without vision",
    ),
    Rule(
        "Qwen3.5",
        ("model.layers.0.linear_attn.A_log",),
        variant=lambda keys: {1024: "0.8B", 2048: "2B", 2560: "4B", 4096: "9B", 5120: "27B"}.get(_norm(keys), ""),
    ),
    Rule(
        "Qwen3-VL 4B",
        ("model.visual.deepstack_merger_list.0.norm.weight",),
        lambda keys: keys.rows("model.visual.merger.linear_fc2.weight") == 2560,
    ),
    Rule("Qwen3-VL 8B", ("model.visual.deepstack_merger_list.0.norm.weight",)),
    Rule(
        "Qwen3-VL 32B",
        ("visual.deepstack_merger_list.0.norm.weight",),
        variant=lambda keys: "cut to 50 layers" if keys.count("model.layers.") == 50 else "",
    ),
    Rule(
        "Mistral 3 24B",
        (_POST,),
        lambda keys: _norm(keys) == 5120 or 0 < _queries(keys) < 1,
        lambda keys: "" if keys.count("model.layers.") >= 40 else f"cut to {keys.count('model.layers.')} layers",
    ),
    Rule(
        "Ministral 3 3B",
        (_POST,),
        lambda keys: _norm(keys) == 3072 or _queries(keys) > 1,
    ),
    Rule("Qwen3", _HAS_QK_NORM, variant=lambda keys: _k(_norm(keys))),
    Rule("Llama 3.1 8B", ("model.layers.0.self_attn.k_proj.weight",)),
    Rule("GPT-OSS 20B", ("layers.0.self_attn.sinks",)),
    Rule("a language model", ("blk.0.attn_k.weight",), variant=lambda keys: "llama.cpp names"),
    Rule("LTX-2 connectors", ("text_embedding_projection.aggregate_embed.weight",)),
    Rule("LTX-2 connectors", ("text_embedding_projection.video_aggregate_embed.weight",), variant=lambda keys: "2.3"),
)
"""Names are those of `without_language_prefix`."""

_LAST = "vision_model.encoder.layers.{}.mlp.fc1.weight"


def _side(keys: Keys) -> str:
    places = keys.rows("vision_model.embeddings.position_embedding.weight")
    return "336 pixels" if places == 577 else "224 pixels"


IMAGE_ENCODERS: tuple[Rule, ...] = (
    Rule("CLIP image encoder (open_clip)", ("visual.transformer.resblocks.0.ln_1.weight",)),
    Rule("CLIP ViT-bigG", (_LAST.format(47),), variant=lambda keys: "224 pixels"),
    Rule("CLIP ViT-H", (_LAST.format(30),), variant=lambda keys: "224 pixels"),
    Rule(
        "SigLIP so400m",
        (_LAST.format(26), "vision_model.embeddings.patch_embedding.bias"),
        lambda keys: not keys.starts("vision_model.embeddings.class_embedding"),
        lambda keys: {729: "384 pixels", 1024: "512 pixels"}.get(
            keys.rows("vision_model.embeddings.position_embedding.weight"), ""
        ),
    ),
    Rule(
        "CLIP ViT-L",
        (_LAST.format(22),),
        variant=lambda keys: f"{_side(keys)}{', LLaVA' if keys.has('multi_modal_projector.linear_1.bias') else ''}",
    ),
    Rule(
        "DINOv2",
        ("embeddings.patch_embeddings.projection.weight",),
        variant=lambda keys: {40: "giant", 24: "large"}.get(keys.count("encoder.layer."), ""),
    ),
    Rule(
        "CLIP image encoder",
        ("vision_model.embeddings.class_embedding", _LAST.format(0)),
        variant=lambda keys: f"{keys.count('vision_model.encoder.layers.')} layers",
    ),
)

_CONV_IN = "decoder.conv_in.weight"


def _latent(channels: int) -> str:
    return {4: "Stable Diffusion, SDXL", 16: "FLUX.1, Stable Diffusion 3, Z-Image", 32: "FLUX.2"}.get(
        channels, f"{channels} latent channels"
    )


def _wan_vae(keys: Keys) -> str:
    channels = keys.columns("decoder.conv1.weight")
    return {16: "Wan 2.1, Qwen-Image", 48: "Wan 2.2", 64: "Qwen-Image 2.1"}.get(channels, f"{channels} latent channels")


VAES: tuple[Rule, ...] = (
    Rule("no VAE (pixels)", ("pixel_space_vae",)),
    Rule(
        "AutoencoderKL",
        ("decoder.up_blocks.0.resnets.0.norm1.weight",),
        variant=lambda keys: _latent(keys.columns(_CONV_IN)),
    ),
    Rule(
        "AutoencoderKL",
        (_CONV_IN, "decoder.mid.block_1.norm1.weight"),
        variant=lambda keys: _latent(keys.columns(_CONV_IN)),
    ),
    Rule("Wan VAE", ("decoder.middle.0.residual.0.gamma",), variant=_wan_vae),
    Rule("LTX VAE", ("decoder.up_blocks.0.res_blocks.0.conv1.conv.weight",)),
    Rule(
        "HunyuanVideo VAE",
        ("decoder.conv_in.conv.weight",),
        variant=lambda keys: "1.5" if keys.columns("decoder.conv_in.conv.weight") == 32 else "",
    ),
    Rule("TAESD", ("taesd_decoder.1.weight",), variant=lambda keys: _latent(keys.columns("taesd_decoder.1.weight"))),
    Rule("TAESD", ("decoder.layers.0.weight", "encoder.layers.0.weight")),
    Rule("TAESD", ("1.weight", "3.conv.0.weight"), variant=lambda keys: "decoder alone"),
    Rule("TAESD", ("0.weight", "1.conv.0.weight"), variant=lambda keys: "encoder alone"),
    Rule("video TAE", ("decoder.22.bias",)),
)
"""Names are those behind `first_stage_model.` or `vae.`."""
