"""The sound of LTX-2 and 2.3: a VAE between spectrograms and latents, and a vocoder from spectrograms to waves. Imports
no torch.

A latent [8, frames, 16] has 25 frames a second, each of four columns of a mel spectrogram of 64 bins in stereo, and is
normalised number by number with the statistics of the file. Configs are arguments of diffusers' AutoencoderKLLTX2Audio,
and of LTX2Vocoder (HiFi-GAN, arXiv 2010.05646) or LTX2VocoderWithBWE (BigVGAN, arXiv 2206.04658, and a second network
that adds what is above 8 kHz: 2.3).

Layouts: `original` (`audio_vae.` and `vocoder.` of single files) and `diffusers` (`audio_vae/` and `vocoder/`).

Inferred from the published configs, as no shape shows it: how far the upsampling of a kernel of a size goes, the
dilations, rates of 16000 and, with the second network, 48000 samples a second, and that the vocoder computes in
float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...files.convert import Table
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part
from ...model.latent import LatentFormat
from ..kits.flow import Shape, count

__all__ = ["CELL", "FRAMES_A_SECOND", "LTX2_AUDIO", "rate_of"]

CELL = 4
"""Columns and bins of a spectrogram of one frame and one bin of a latent."""
RATE, HOP = 16000, 160
"""Samples a second that spectrograms are made of, and samples between two columns."""
FRAMES_A_SECOND = RATE / HOP / CELL
FACTORS = {16: 6, 15: 5, 12: 6, 11: 5, 8: 2, 4: 2}
"""Size of the kernel of an upsampler -> how many samples it makes of one."""
BWE_HOP, BWE_RATE = 80, 48000
"""Of the second network: samples between two columns of its spectrogram, and samples a second that it makes."""
_CLASS = "AutoencoderKLLTX2Audio"
_WORDS = {
    "conv_in": "conv_pre",
    "conv_out": "conv_post",
    "act_out": "act_post",
    "upsamplers": "ups",
    "resnets": "resblocks",
}


def rate_of(config: Config) -> int:
    """Samples a second that a vocoder makes."""
    vocoder = config.vocoder
    stated = vocoder.get("output_sampling_rate")
    return int(stated) if stated is not None else RATE // HOP * math.prod(vocoder.upsample_factors)


def _recognise(header: Header) -> Found | None:
    if header.format == "diffusers":
        return _in_folder(header)
    vae = _vae(_under(header, "audio_vae."))
    vocoder = _vocoder(_under(header, "vocoder."))
    if vae is None or vocoder is None:
        return None
    return Found(
        Config(vae=vae, vocoder=vocoder),
        {"vae": ("original", "audio_vae."), "vocoder": ("original", "vocoder.")},
    )


def _in_folder(header: Header) -> Found | None:
    stated = {part: header.configs.get(part, {}) for part in ("audio_vae", "vocoder")}
    if stated["audio_vae"].get("_class_name") != _CLASS:
        return None
    vae = _vae(_under(header, "audio_vae/"), "latents_mean")
    if vae is None or "upsample_factors" not in stated["vocoder"]:
        return None
    given = {part: {key: v for key, v in one.items() if not key.startswith("_")} for part, one in stated.items()}
    return Found(
        Config(vae=vae | given["audio_vae"], vocoder=Config(given["vocoder"])),
        {"vae": ("diffusers", "audio_vae/"), "vocoder": ("diffusers", "vocoder/")},
    )


def _under(header: Header, prefix: str) -> dict[str, Shape]:
    return {name[len(prefix) :]: info.shape for name, info in header.tensors.items() if name.startswith(prefix)}


def _vae(shapes: Mapping[str, Shape], statistics: str = "per_channel_statistics.mean-of-means") -> Config | None:
    """The arguments of AutoencoderKLLTX2Audio."""
    needed = ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight", "decoder.conv_out.conv.weight", statistics)
    if not all(name in shapes for name in needed):
        return None
    first, from_latent, last, (numbers,) = (shapes[name] for name in needed)
    blocks = count(shapes, "encoder.down.{}.block.0.conv1.conv.weight")
    widths = [shapes[f"encoder.down.{level}.block.0.conv1.conv.weight"][0] for level in range(blocks)]
    channels = from_latent[1]
    return Config(
        base_channels=first[0],
        in_channels=first[1],
        output_channels=last[0],
        ch_mult=[width // first[0] for width in widths],
        num_res_blocks=count(shapes, "encoder.down.0.block.{}.conv1.conv.weight"),
        latent_channels=channels,
        mel_bins=numbers // channels * CELL,
        mid_block_add_attention="encoder.mid.attn_1.q.weight" in shapes,
        norm_type="group" if "decoder.norm_out.weight" in shapes else "pixel",
        sample_rate=RATE,
        mel_hop_length=HOP,
    )


def _vocoder(shapes: Mapping[str, Shape]) -> Config | None:
    """The arguments of LTX2Vocoder, or of LTX2VocoderWithBWE."""
    if "bwe_generator.conv_pre.weight" not in shapes:
        found = _generator(shapes)
        return None if found is None else Config(found, output_sampling_rate=_made_of(found))
    first, second = (
        _generator({name[len(begin) :]: shape for name, shape in shapes.items() if name.startswith(begin)})
        for begin in ("vocoder.", "bwe_generator.")
    )
    if first is None or second is None:
        return None
    return Config(
        {**first, **{f"bwe_{name}": value for name, value in second.items()}},
        filter_length=shapes["mel_stft.stft_fn.forward_basis"][2],
        window_length=shapes["mel_stft.stft_fn.forward_basis"][2],
        hop_length=BWE_HOP,
        num_mel_channels=shapes["mel_stft.mel_basis"][0],
        input_sampling_rate=_made_of(first),
        output_sampling_rate=BWE_RATE,
    )


def _made_of(generator: Mapping[str, Any]) -> int:
    return RATE // HOP * int(math.prod(generator["upsample_factors"]))


def _generator(shapes: Mapping[str, Shape]) -> dict[str, Any] | None:
    if "conv_pre.weight" not in shapes:
        return None
    hidden, channels = shapes["conv_pre.weight"][:2]
    steps = count(shapes, "ups.{}.weight")
    kernels = [shapes[f"ups.{step}.weight"][2] for step in range(steps)]
    if not all(kernel in FACTORS for kernel in kernels):
        return None
    beside = count(shapes, "resblocks.{}.convs1.0.weight") // max(1, steps)
    is_snake = "resblocks.0.acts1.0.act.alpha" in shapes
    layers = count(shapes, "resblocks.0.convs1.{}.weight")
    return {
        "in_channels": channels,
        "hidden_channels": hidden,
        "out_channels": shapes["conv_post.weight"][0],
        "upsample_kernel_sizes": kernels,
        "upsample_factors": [FACTORS[kernel] for kernel in kernels],
        "resnet_kernel_sizes": [shapes[f"resblocks.{number}.convs1.0.weight"][2] for number in range(beside)],
        "resnet_dilations": [[2 * layer + 1 for layer in range(layers)]] * beside,
        "act_fn": "snakebeta" if is_snake else "leaky_relu",
        "antialias": is_snake,
        "final_act_fn": None if is_snake else "tanh",
        "final_bias": "conv_post.bias" in shapes,
    }


def _vae_table(config: Config) -> Table:
    begin = "per_channel_statistics"
    return {"": "", "latents_mean": f"{begin}.mean-of-means", "latents_std": f"{begin}.std-of-means"}


def _vocoder_table(config: Config) -> Table:
    if "bwe_upsample_factors" not in config:
        return {"": "", **_generator_table(config, "")}
    second = Config({name[4:]: value for name, value in config.items() if name.startswith("bwe_")})
    return {"": "", **_generator_table(config, "vocoder."), **_generator_table(second, "bwe_generator.")}


def _generator_table(config: Config, begin: str) -> dict[str, str]:
    table = {f"{begin}{here}": f"{begin}{there}" for here, there in _WORDS.items()}
    if config.antialias:
        blocks = len(config.upsample_factors) * len(config.resnet_kernel_sizes)
        acts = [
            (f"resnets.{block}.acts{half}.{layer}", f"resblocks.{block}.acts{half}.{layer}")
            for block in range(blocks)
            for half in (1, 2)
            for layer in range(len(config.resnet_dilations[0]))
        ]
        for here, there in (*acts, ("act_out", "act_post")):
            table[f"{begin}{here}.downsample"] = f"{begin}{there}.downsample.lowpass"
    return table


def _latent(config: Config) -> LatentFormat:
    return LatentFormat(channels=config.vae.latent_channels, factor=1)


LTX2_AUDIO = Family(
    name="ltx2_audio",
    version="1",
    title="audio VAE of LTX-2",
    recognise=_recognise,
    parts={
        "vae": Part(
            build=f"{__name__}.network:build_vae",
            layouts={"original": _vae_table, "diffusers": lambda config: {"": ""}},
            title="audio VAE",
            unused=("per_channel_statistics.*",),
        ),
        "vocoder": Part(
            build=f"{__name__}.network:build_vocoder",
            layouts={"original": _vocoder_table, "diffusers": lambda config: {"": ""}},
            title="vocoder",
            dtype="float32",
        ),
    },
    latent=_latent,
    network=f"{__name__}.network",
)
"""A kind of VAE: of sounds, not of images."""
