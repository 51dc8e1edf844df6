"""Small versions of LTX-Video and its VAEs, written in the key layouts of real files.

The names of original layouts are made here by replacing words, apart from the tables that read them.
"""

import json
import re
from functools import cache

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from safetensors.torch import save_file

from . import tiny, tiny_transformers
from .tiny_modern import half, renamed, save_index

CHANNELS = 128
CAUSAL = {"transformer": {"num_attention_heads": 2, "causal_temporal_positioning": True}, "vae": {}}
"""The notes of the publisher's files from 0.9.5 on; here two heads, where real ones have 32."""
VAES = {
    "0.9": {
        "block_out_channels": (8, 12, 16, 16),
        "decoder_block_out_channels": (8, 12, 16, 16),
        "layers_per_block": (2, 1, 1, 1, 1),
        "decoder_layers_per_block": (2, 1, 1, 1, 1),
    },
    "0.9.1": {
        "block_out_channels": (8, 12, 16, 16),
        "decoder_block_out_channels": (8, 16, 32),
        "layers_per_block": (2, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 2, 1, 1),
        "decoder_spatio_temporal_scaling": (True, True, True),
        "decoder_inject_noise": (True, True, True, False),
        "upsample_residual": (True, True, True),
        "upsample_factor": (2, 2, 2),
        "timestep_conditioning": True,
    },
    "0.9.5": {
        "block_out_channels": (8, 16, 32, 64, 64),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
        "decoder_block_out_channels": (8, 16, 32),
        "layers_per_block": (2, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 2, 1, 1),
        "spatio_temporal_scaling": (True, True, True, True),
        "decoder_spatio_temporal_scaling": (True, True, True),
        "decoder_inject_noise": (False, False, False, False),
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "upsample_residual": (True, True, True),
        "upsample_factor": (2, 2, 2),
        "timestep_conditioning": True,
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
}
"""Version -> the arguments that its published VAE has, with narrow widths."""


@cache
def denoiser():
    module = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=32,
        cross_attention_dim=64,
        num_layers=2,
        caption_channels=tiny_transformers.T5_WIDTH,
    )
    return tiny.filled(module, "ltx")


def denoiser_file(prefix=""):
    words = (("proj_in", "patchify_proj"), ("time_embed", "adaln_single"), ("norm_q", "q_norm"), ("norm_k", "k_norm"))
    return renamed(half(denoiser()), words, prefix)


@cache
def vae(version="0.9"):
    module = tiny.filled(AutoencoderKLLTXVideo(**VAES[version]), f"ltx_vae{version}")
    module.latents_mean.copy_(torch.linspace(-0.3, 0.3, CHANNELS).half())
    module.latents_std.copy_(torch.linspace(0.8, 1.2, CHANNELS).half())
    if module.decoder.timestep_scale_multiplier is not None:
        module.decoder.timestep_scale_multiplier.fill_(1000.0)
    return module


def numbered(version):
    """Pairs of patterns that number the pieces of both halves through, as in the version's files."""

    def pieces(half, way, names):
        for number, name in enumerate(names):
            place = f"{half}.{way}_blocks.{number}"
            if name.endswith("conv_in") or name.endswith("conv_out"):
                yield f"{half}.{name}.conv_shortcut.conv.", f"{place}.conv_shortcut."
                yield f"{half}.{name}.norm3.", f"{place}.norm3.norm."
            yield f"{half}.{name}.", f"{place}."

    new = [f"down_blocks.{n}{end}" for n in range(4) for end in ("", ".downsamplers.0")]
    old = [f"down_blocks.{n}{end}" for n in range(3) for end in ("", ".downsamplers.0", ".conv_out")]
    old.remove("down_blocks.2.conv_out")  # the width changes behind the first two levels
    down = [*(new if version == "0.9.5" else [*old, "down_blocks.3"]), "mid_block"]
    up = [f"up_blocks.{n}{end}" for n in range(3) for end in (".upsamplers.0", "")]
    if version == "0.9":
        up = ["up_blocks.0"] + [f"up_blocks.{n}{end}" for n in (1, 2, 3) for end in (".conv_in", ".upsamplers.0", "")]
        up.remove("up_blocks.1.conv_in")
    found = [*pieces("encoder", "down", down), *pieces("decoder", "up", ["mid_block", *up])]
    return sorted(found, key=lambda pair: -len(pair[0]))


def vae_file(version="0.9", prefix=""):
    found = {}
    for name, weight in half(vae(version)).items():
        pair = next((pair for pair in numbered(version) if name.startswith(pair[0])), None)
        name = name.replace(*pair, 1) if pair is not None else name
        name = name.replace("resnets", "res_blocks")
        name = re.sub(r"^decoder\.(time_embedder|scale_shift_table)", r"decoder.last_\1", name)
        name = name.replace("latents_mean", "per_channel_statistics.mean-of-means")
        name = name.replace("latents_std", "per_channel_statistics.std-of-means")
        found[prefix + name] = weight
    channels = torch.arange(CHANNELS).half()
    return {**found, f"{prefix}per_channel_statistics.channel": channels}


@cache
def upsampler(spatial=True, temporal=False):
    module = LTXLatentUpsamplerModel(
        in_channels=CHANNELS,
        mid_channels=32,
        num_blocks_per_stage=1,
        spatial_upsample=spatial,
        temporal_upsample=temporal,
    )
    return tiny.filled(module, f"ltx_upsampler{spatial}{temporal}")


def checkpoint(version="0.9"):
    """A denoiser and a VAE in one file, as the publisher's checkpoints."""
    return {**denoiser_file("model.diffusion_model."), **vae_file(version, "vae.")}


def _write(path, weights, notes=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = None if notes is None else {"config": json.dumps(notes)}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path, metadata)
    return path


HEADS = {"transformer": {"num_attention_heads": 2}}
FILES = {
    "ltx-video-2b-v0.9.safetensors": ("checkpoints", checkpoint, HEADS),
    "ltx-video-2b-v0.9.1.safetensors": ("checkpoints", lambda: checkpoint("0.9.1"), HEADS),
    "ltx-video-2b-v0.9.5.safetensors": ("checkpoints", lambda: checkpoint("0.9.5"), CAUSAL),
    "ltxv-13b-0.9.8-distilled-fp8.safetensors": ("diffusion_models", denoiser_file, CAUSAL),
    "ltx_vae.safetensors": ("vae", lambda: vae_file("0.9.5"), None),
    "ltxv-spatial-upscaler-0.9.8.safetensors": ("latent_upscale_models", lambda: half(upsampler()), None),
}
"""Names of files in workflows -> folder, tensors and notes of a small one."""


def save(models, name):
    """A small file under the name of a real one, in its folder below `models`."""
    folder, weights, notes = FILES[name]
    return _write(models / folder / name, weights(), notes)


def save_folder(place, version="0.9.5", pipeline="LTXConditionPipeline"):
    """A diffusers folder with all its parts."""
    denoiser().save_pretrained(place / "transformer")
    vae(version).save_pretrained(place / "vae")
    text, tokenizer = place / "text_encoder", place / "tokenizer"
    text.mkdir()
    save_file(tiny_transformers.t5_weights(), text / "model.safetensors")
    (text / "config.json").write_text(json.dumps({"model_type": "t5"}))
    tokenizer.mkdir()
    written = tiny_transformers.save_vocabulary(place / "made") / "tokenizer.json"
    written.rename(tokenizer / "tokenizer.json")
    return save_index(place, pipeline, transformer="LTXVideoTransformer3DModel", vae="AutoencoderKLLTXVideo")
