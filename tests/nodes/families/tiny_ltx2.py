"""Small versions of LTX-2 and 2.3 with all their parts, written in the key layouts of real files.

The names of original layouts are made here by replacing words, apart from the tables that read them.
"""

import json
from functools import cache

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from safetensors.torch import save_file
from transformers import Gemma3TextConfig, Gemma3TextModel

from . import tiny
from .tiny_flow import tokenizer_tensor
from .tiny_modern import half, renamed, save_index

CHANNELS, TEXT = 128, 32
SOUND, BINS = 8, 4
"""Channels and bins of the latent of a sound."""
VERSIONS = ("2.0", "2.3")
_STREAM = {"num_layers": 2, "num_learnable_registers": 8}
HALVES = {
    "2.0": {
        "block_out_channels": (64, 64, 128, 128),
        "decoder_block_out_channels": (32, 64, 128),
        "layers_per_block": (1, 2, 1, 1, 1),
        "decoder_layers_per_block": (1, 2, 1, 1),
        "decoder_spatio_temporal_scaling": (True,) * 3,
        "decoder_inject_noise": (False,) * 4,
        "upsample_type": ("spatiotemporal",) * 3,
        "upsample_residual": (True,) * 3,
        "upsample_factor": (2, 2, 2),
        "decoder_spatial_padding_mode": "reflect",
    },
    "2.3": {
        "block_out_channels": (64, 64, 128, 128),
        "decoder_block_out_channels": (32, 64, 64, 128),
        "layers_per_block": (1, 2, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 2, 1, 1),
        "decoder_spatio_temporal_scaling": (True,) * 4,
        "decoder_inject_noise": (False,) * 5,
        "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
        "upsample_residual": (False,) * 4,
        "upsample_factor": (2, 2, 1, 2),
        "decoder_spatial_padding_mode": "zeros",
    },
}
"""Version -> the arguments of its published VAE that differ, with narrow widths."""


@cache
def gemma():
    config = Gemma3TextConfig(
        vocab_size=1000,
        hidden_size=TEXT,
        intermediate_size=32,
        num_hidden_layers=48,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=256,
        sliding_window=1024,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        attn_implementation="sdpa",
    )
    return tiny.filled(Gemma3TextModel(config), "gemma3")


@cache
def connectors(version="2.0"):
    is_new = version == "2.3"
    sizes = {
        "video_connector_num_attention_heads": 2,
        "video_connector_attention_head_dim": 32 if is_new else 16,
        "audio_connector_num_attention_heads": 2,
        "audio_connector_attention_head_dim": 16,
        "video_gated_attn": is_new,
        "audio_gated_attn": is_new,
    }
    streams = {f"{stream}_connector_{name}": value for stream in ("video", "audio") for name, value in _STREAM.items()}
    more = {"per_modality_projections": True, "video_hidden_dim": 64, "audio_hidden_dim": 32, "proj_bias": True}
    module = LTX2TextConnectors(
        caption_channels=TEXT, text_proj_in_factor=49, rope_type="split", **sizes, **streams, **(more if is_new else {})
    )
    return tiny.filled(module, f"ltx2_connectors{version}")


@cache
def denoiser(version="2.0"):
    is_new = version == "2.3"
    module = LTX2VideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=32,
        cross_attention_dim=64,
        audio_in_channels=SOUND * BINS,
        audio_out_channels=SOUND * BINS,
        audio_num_attention_heads=2,
        audio_attention_head_dim=16,
        audio_cross_attention_dim=32,
        num_layers=2,
        caption_channels=TEXT,
        rope_type="split",
        use_prompt_embeddings=not is_new,
        gated_attn=is_new,
        audio_gated_attn=is_new,
        cross_attn_mod=is_new,
        audio_cross_attn_mod=is_new,
    )
    return tiny.filled(module, f"ltx2{version}")


@cache
def vae(version="2.0"):
    module = AutoencoderKLLTX2Video(
        decoder_causal=False, spatial_compression_ratio=32, temporal_compression_ratio=8, **HALVES[version]
    )
    return _with_statistics(tiny.filled(module, f"ltx2_vae{version}"), CHANNELS)


@cache
def audio_vae():
    module = AutoencoderKLLTX2Audio(base_channels=SOUND * BINS, num_res_blocks=1, mel_bins=4 * BINS)
    return _with_statistics(tiny.filled(module, "ltx2_audio"), SOUND * BINS)


def _with_statistics(module, numbers):
    module.latents_mean.copy_(torch.linspace(-0.3, 0.3, numbers).half())
    module.latents_std.copy_(torch.linspace(0.8, 1.2, numbers).half())
    return module


@cache
def vocoder(version="2.0"):
    if version == "2.3":
        kind = LTX2VocoderWithBWE(
            in_channels=8 * BINS, hidden_channels=64, bwe_in_channels=32, bwe_hidden_channels=32, num_mel_channels=16
        )
    else:
        kind = LTX2Vocoder(in_channels=8 * BINS, hidden_channels=64)
    module = tiny.filled(kind, f"ltx2_vocoder{version}")
    if version == "2.3":  # a bank of filters: none is negative
        module.mel_stft.mel_basis.copy_(module.mel_stft.mel_basis.abs())
    return module


DENOISER_WORDS = (
    ("proj_in", "patchify_proj"),
    ("time_embed.", "adaln_single."),
    ("prompt_adaln.", "prompt_adaln_single."),
    ("av_cross_attn_video_scale_shift.", "av_ca_video_scale_shift_adaln_single."),
    ("av_cross_attn_audio_scale_shift.", "av_ca_audio_scale_shift_adaln_single."),
    ("av_cross_attn_video_a2v_gate.", "av_ca_a2v_gate_adaln_single."),
    ("av_cross_attn_audio_v2a_gate.", "av_ca_v2a_gate_adaln_single."),
    ("video_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_video"),
    ("audio_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_audio"),
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
)
CONNECTOR_WORDS = (
    ("transformer_blocks", "transformer_1d_blocks"),
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
    ("video_text_proj_in", "text_embedding_projection.video_aggregate_embed"),
    ("audio_text_proj_in", "text_embedding_projection.audio_aggregate_embed"),
    ("text_proj_in", "text_embedding_projection.aggregate_embed"),
)
VOCODER_WORDS = (
    ("conv_in", "conv_pre"),
    ("conv_out", "conv_post"),
    ("act_out", "act_post"),
    ("upsamplers", "ups"),
    ("resnets", "resblocks"),
    ("downsample.", "downsample.lowpass."),
)
STATISTICS = (
    ("latents_mean", "per_channel_statistics.mean-of-means"),
    ("latents_std", "per_channel_statistics.std-of-means"),
)


def denoiser_file(version="2.0", prefix=""):
    return renamed(half(denoiser(version)), DENOISER_WORDS, prefix)


def connectors_file(version="2.0", prefix="model.diffusion_model."):
    words = [(f"{stream}_connector.", f"{prefix}{stream}_embeddings_connector.") for stream in ("video", "audio")]
    return renamed(half(connectors(version)), (*CONNECTOR_WORDS, *words))


def vae_file(version="2.0", prefix=""):
    steps = len(HALVES[version]["upsample_factor"])
    down = [f"down_blocks.{level}{end}" for level in range(4) for end in ("", ".downsamplers.0")]
    up = [f"up_blocks.{level}{end}" for level in range(steps) for end in (".upsamplers.0", "")]
    places = {}
    for half_name, way, names in (("encoder", "down", [*down, "mid_block"]), ("decoder", "up", ["mid_block", *up])):
        places |= {f"{half_name}.{name}.": f"{half_name}.{way}_blocks.{n}." for n, name in enumerate(names)}
    found = {}
    for name, weight in half(vae(version)).items():
        place = max((one for one in places if name.startswith(one)), key=len, default=None)
        name = name if place is None else places[place] + name.removeprefix(place)
        found[name.replace("resnets", "res_blocks")] = weight
    return {**renamed(found, STATISTICS, prefix), f"{prefix}per_channel_statistics.channel": torch.arange(CHANNELS)}


def audio_file(version="2.0"):
    return {
        **renamed(half(audio_vae()), STATISTICS, "audio_vae."),
        **renamed(half(vocoder(version)), VOCODER_WORDS, "vocoder."),
    }


def gemma_file():
    return {**half(gemma(), "model."), **tokenizer_tensor()}


def checkpoint(version="2.0"):
    """All but Gemma in one file, as the publisher's checkpoints."""
    return {
        **denoiser_file(version, "model.diffusion_model."),
        **connectors_file(version),
        **vae_file(version, "vae."),
        **audio_file(version),
    }


NOTES = {
    "transformer": {
        "num_attention_heads": 2,
        "audio_num_attention_heads": 2,
        "connector_num_attention_heads": 2,
        "audio_connector_num_attention_heads": 2,
        "rope_type": "split",
        "frequencies_precision": "float64",
        "positional_embedding_max_pos": [20, 2048, 2048],
    }
}
"""The notes of the publisher's files; here two heads, where real ones have 30 and 32."""
FILES = {
    "ltx-2-19b-dev.safetensors": ("checkpoints", checkpoint),
    "ltx-2.3-22b-dev.safetensors": ("checkpoints", lambda: checkpoint("2.3")),
    "ltx-2-19b-dev_transformer_only.safetensors": ("diffusion_models", denoiser_file),
    "ltx-2-vae.safetensors": ("vae", vae_file),
    "ltx-2-connectors.safetensors": ("checkpoints", lambda: connectors_file(prefix="")),
    "gemma_3_12B_it.safetensors": ("text_encoders", gemma_file),
}
"""Names of files -> folder and tensors of a small one."""


def save(models, name):
    """A small file under the name of a real one, in its folder below `models`."""
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = None if name.startswith("gemma") else {"config": json.dumps(NOTES)}
    save_file({key: weight.contiguous() for key, weight in weights().items()}, path, notes)
    return path


def save_folder(place):
    """A diffusers folder with all its parts."""
    denoiser().save_pretrained(place / "transformer")
    connectors().save_pretrained(place / "connectors")
    vae().save_pretrained(place / "vae")
    audio_vae().save_pretrained(place / "audio_vae")
    vocoder().save_pretrained(place / "vocoder")
    gemma().save_pretrained(place / "text_encoder")
    (place / "tokenizer").mkdir()
    (place / "tokenizer" / "tokenizer.model").write_bytes(bytes(tokenizer_tensor()["spiece_model"].tolist()))
    kinds = {"transformer": "LTX2VideoTransformer3DModel", "vae": "AutoencoderKLLTX2Video"}
    return save_index(place, "LTX2Pipeline", **kinds)
