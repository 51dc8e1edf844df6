"""Small versions of Wan 2.1 and 2.2, UMT5 and the VAE of Wan 2.2, written in the key layouts of real files.

The names of original layouts are made here by replacing words, apart from the tables that read them.
"""

import json
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from graphflow_nodes.families.kits import umt5_network
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny, tiny_modern, tiny_qwen
from .tiny_modern import half, renamed

SPIECE = Path(__file__).parents[2] / "data" / "wan" / "spiece_umt5_like.model"
WIDTH = 32
"""Of the text."""
SEEN = 64
"""Of the states of the image encoder."""
KINDS = {
    "t2v": {},
    "i2v": {"in_channels": 36},
    "i2v_clip": {"in_channels": 36, "image_dim": SEEN, "added_kv_proj_dim": 128},
    "flf2v": {"in_channels": 36, "image_dim": SEEN, "added_kv_proj_dim": 128, "pos_embed_seq_len": 34},
    "ti2v": {"in_channels": 48, "out_channels": 48},
}
UMT5 = {
    "vocab_size": 816,
    "d_model": WIDTH,
    "d_kv": 16,
    "d_ff": 32,
    "num_layers": 24,
    "num_heads": 2,
    "relative_attention_num_buckets": 32,
    "feed_forward_proj": "gated-gelu",
}
VAE22 = {
    "base_dim": 8,
    "decoder_base_dim": 8,
    "z_dim": 48,
    "dim_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


def denoiser(kind="t2v", salt="wan"):
    module = WanTransformer3DModel(
        num_attention_heads=1,
        attention_head_dim=128,
        text_dim=WIDTH,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        **KINDS[kind],
    )
    return tiny.filled(module, salt)


WORDS = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    (re.compile("^scale_shift_table"), "head.modulation"),
    ("scale_shift_table", "modulation"),
    ("proj_out", "head.head"),
    (".norm2.", ".norm3."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("attn2.add_k_proj", "cross_attn.k_img"),
    ("attn2.add_v_proj", "cross_attn.v_img"),
    ("attn2.norm_added_k", "cross_attn.norm_k_img"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    (re.compile(r"to_([qkv])\."), r"\1."),
    ("to_out.0", "o"),
)


def denoiser_file(kind="t2v", prefix="", salt="wan"):
    return renamed(half(denoiser(kind, salt)), WORDS, prefix)


def text():
    return tiny.filled(umt5_network.build(Config(UMT5)), "umt5")


def spiece():
    return torch.frombuffer(bytearray(SPIECE.read_bytes()), dtype=torch.uint8).clone()


def text_file(prefix="", with_tokenizer=True):
    words = ((re.compile(r"^embed_tokens"), "shared"), (re.compile(r"^(?!shared)"), "encoder."))
    found = renamed(half(text()), words, prefix)
    return {**found, f"{prefix}spiece_model": spiece()} if with_tokenizer else found


def vae22():
    return tiny.filled(AutoencoderKLWan(**VAE22), "wan22_vae")


def vae22_file(prefix=""):
    return renamed(half(vae22()), tiny_modern.WAN_22, prefix)


FILES = {
    "wan2.1_t2v_1.3B_fp16.safetensors": ("diffusion_models", denoiser_file),
    "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors": ("diffusion_models", lambda: denoiser_file("i2v")),
    "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors": (
        "diffusion_models",
        lambda: denoiser_file("i2v", salt="wan.low"),
    ),
    "wan2.1_i2v_480p_14B_fp16.safetensors": ("diffusion_models", lambda: denoiser_file("i2v_clip")),
    "wan2.1_flf2v_720p_14B_fp16.safetensors": ("diffusion_models", lambda: denoiser_file("flf2v")),
    "wan2.2_ti2v_5B_fp16.safetensors": ("diffusion_models", lambda: denoiser_file("ti2v")),
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": ("text_encoders", text_file),
    "wan_2.1_vae.safetensors": ("vae", tiny_qwen.vae_file),
    "wan2.2_vae.safetensors": ("vae", vae22_file),
}
"""Names of files in workflows -> folder and tensors of a small one."""


def save(models, name):
    """A small file under the name of a real one, in its folder below `models`."""
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in weights().items()}, path)
    return path


def checkpoint():
    """All in one file, as ComfyUI writes checkpoints."""
    return {
        **denoiser_file(prefix="model.diffusion_model."),
        **text_file("text_encoders.umt5xxl.transformer."),
        **tiny_qwen.vae_file(prefix="vae."),
    }


def save_folder(place, **transformers):
    """A diffusers folder with all its parts; `transformers` by the names of their folders."""
    transformers = transformers or {"transformer": denoiser()}
    for name, module in transformers.items():
        module.half().save_pretrained(place / name)
    tiny_qwen.vae().half().save_pretrained(place / "vae")
    (place / "text_encoder").mkdir()
    save_file(text_file(with_tokenizer=False), place / "text_encoder" / "model.safetensors")
    (place / "text_encoder" / "config.json").write_text(json.dumps({"model_type": "umt5"}))
    (place / "tokenizer").mkdir()
    (place / "tokenizer" / "spiece.model").write_bytes(SPIECE.read_bytes())
    return tiny_modern.save_index(place, "WanPipeline", **dict.fromkeys(transformers, "WanTransformer3DModel"))
