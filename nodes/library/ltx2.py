"""LTX-2: text encoders, sounds, and latents of a video with its sound.

A LATENT with sound is that of the video, with a LATENT of the sound under `audio` (see model/pair.py): nodes for videos
take it as it is, and samplers make both at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import Choice, Conditioning, GraphFlowError, Help, Latent, Problem, Range, Settings, node

from ..devices.environment import numerics
from ..families.ltx2_files import check_audio_vae, check_text_encoder
from ..limits import check_latent
from ..model.pair import AUDIO
from ..model.wires import ClipWire, ModelWire, VaeWire
from .conditioning import with_options
from .loaders import Device, Encoder, checkpoint_digest, checkpoints, folders, with_vocabulary
from .ltx import VIDEO_MODELS
from .video import Audio
from .widgets import MAX_SIDE

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.handles import Vae

_Share = Annotated[float, Range(0.0, 1.0, 0.001)]
_Checkpoint = Annotated[str, Choice(checkpoints, "models/checkpoints")]


class WithVoice(NamedTuple):
    model: ModelWire
    positive: Conditioning
    negative: Conditioning


class ApartLatents(NamedTuple):
    video_latent: Latent
    audio_latent: Latent


def _text_encoder_digest(settings: Settings, text_encoder: str, ckpt_name: str, **_: Any) -> str:
    return f"{with_vocabulary(settings, 'text_encoders', text_encoder)} {checkpoint_digest(settings, ckpt_name)}"


@node(
    "LTXAVTextEncoderLoader",
    category="advanced/loaders",
    version="1",
    outside=_text_encoder_digest,
    check=check_text_encoder,
)
def ltxav_text_encoder_loader(
    settings: Settings, text_encoder: Encoder, ckpt_name: _Checkpoint, device: Device = "default"
) -> ClipWire:
    """Take Gemma 3 out of a file of its own, and the connectors behind it out of a checkpoint of LTX-2.

    The connectors make a text for the video and one for the sound of each prompt. `device` is accepted: parts of models
    take turns in memory anyway.
    """
    from ..families.ltx2_files import open_text_encoder

    found = folders(settings)
    return open_text_encoder(found.find("text_encoders", text_encoder), found.find("checkpoints", ckpt_name), settings)


@node("LTXVAudioVAELoader", category="loaders", version="1", outside=checkpoint_digest, check=check_audio_vae)
def ltxv_audio_vae_loader(settings: Settings, ckpt_name: _Checkpoint) -> VaeWire:
    """Take the audio VAE and the vocoder out of a checkpoint of LTX-2. It knows sounds, and no images."""
    from ..families.ltx2_files import open_audio_vae

    return open_audio_vae(folders(settings).find("checkpoints", ckpt_name), settings)


@node("LTXVEmptyLatentAudio", category="latent/audio", version="1")
def ltxv_empty_latent_audio(
    audio_vae: VaeWire,
    frames_number: Annotated[int, Range(1, MAX_SIDE), Help("frames of the video: as in EmptyLTXVLatentVideo")] = 97,
    frame_rate: Annotated[float, Range(1.0, 1000.0, 0.01), Help("as in LTXVConditioning")] = 25.0,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> Latent:
    """A latent of zeros for a sound as long as a video: 25 latent frames a second."""
    import torch

    from ..families.ltx2_audio import CELL, FRAMES_A_SECOND

    _check_audio(audio_vae)
    frames = max(1, round(frames_number / frame_rate * FRAMES_A_SECOND))
    shape = (batch_size, audio_vae.latent.channels, frames, audio_vae.config.vae.mel_bins // CELL)
    check_latent(shape)
    return {"samples": torch.zeros(shape)}


@node("LTXVConcatAVLatent", category="latent/video/ltxv", version="1")
def ltxv_concat_av_latent(video_latent: Latent, audio_latent: Latent) -> Latent:
    """Put the latent of a sound beside that of a video: a sampler of LTX-2 makes both at once, so that they fit."""
    video, audio = video_latent["samples"], audio_latent["samples"]
    for name, latent, found, wanted in (
        ("video_latent", video_latent, video, 5),
        ("audio_latent", audio_latent, audio, 4),
    ):
        if found.dim() != wanted or AUDIO in latent:
            axes = "batch, channels, frames, rows, columns" if wanted == 5 else "batch, channels, frames, bins"
            what = "it has a sound already" if AUDIO in latent else f"it has the shape {list(found.shape)}"
            raise _refused(
                "wrong_latent",
                f"{what}; expected [{axes}] alone",
                name,
                "use EmptyLTXVLatentVideo for the video, and LTXVEmptyLatentAudio for the sound",
            )
    if len(video) != len(audio):
        raise _refused(
            "uneven_batch",
            f"there are {len(video)} videos and {len(audio)} sounds",
            "audio_latent",
            f"set batch_size of LTXVEmptyLatentAudio to {len(video)}",
        )
    return {**video_latent, AUDIO: dict(audio_latent)}


@node("LTXVSeparateAVLatent", category="latent/video/ltxv", version="1")
def ltxv_separate_av_latent(av_latent: Latent) -> ApartLatents:
    """The video and the sound of a latent, each by itself."""
    if AUDIO not in av_latent:
        raise _refused(
            "no_sound",
            "the latent has no sound beside its video",
            "av_latent",
            "join both with LTXVConcatAVLatent before the sampler",
        )
    return ApartLatents({key: value for key, value in av_latent.items() if key != AUDIO}, av_latent[AUDIO])


@node("LTXVAudioVAEDecode", category="latent/audio", version="1", lane="device", in_turns=True, environment=numerics)
def ltxv_audio_vae_decode(settings: Settings, samples: Latent, audio_vae: VaeWire) -> Audio:
    """The sound of a latent: stereo, at the rate of the vocoder."""
    import torch

    from ..devices.use import open_device
    from ..families.ltx2_audio import rate_of
    from ..families.ltx2_audio.network import spectrogram, wave

    _check_audio(audio_vae)
    latents = _sound_of(samples, audio_vae)
    device = open_device(settings)
    with device.use(audio_vae, "vae") as part:
        spectrograms = [device.run(spectrogram, part.module, one) for one in latents]
    with device.use(audio_vae, "vocoder") as part:
        waves = [device.run(wave, part.module, one) for one in spectrograms]
    return {"waveform": torch.stack(waves), "sample_rate": rate_of(audio_vae.config)}


@node("LTXVAudioVAEEncode", category="latent/audio", version="1", lane="device", in_turns=True, environment=numerics)
def ltxv_audio_vae_encode(settings: Settings, audio: Audio, audio_vae: VaeWire) -> Latent:
    """The latent of a sound: 25 latent frames a second. A noise mask of zeros (SetLatentNoiseMask) keeps it while a
    video is made for it.

    A sound of one channel counts for both, and of more than two the first two count.
    """
    import torch

    return {"samples": torch.stack(_encoded(settings, audio, audio_vae, "audio"))}


@node(
    "LTXVReferenceAudio",
    category=VIDEO_MODELS,
    display_name="LTXV Reference Audio (ID-LoRA)",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def ltxv_reference_audio(
    settings: Settings,
    model: ModelWire,
    positive: Conditioning,
    negative: Conditioning,
    reference_audio: Annotated[Audio, Help("about 5 seconds of a voice: ID-LoRAs were trained with that")],
    audio_vae: VaeWire,
    identity_guidance_scale: Annotated[
        float, Range(0.0, 100.0, 0.01), Help("how strongly the sound is led to the voice; 0 saves one pass a step")
    ] = 3.0,
    start_percent: Annotated[_Share, Help("where in the sampling this guidance begins")] = 0.0,
    end_percent: Annotated[_Share, Help("where it ends")] = 1.0,
) -> WithVoice:
    """Let a video of LTX-2 speak with the voice of a sound (arXiv 2603.10256). For a model with an ID-LoRA and for a
    latent with sound.

    The sound stands before the one that is made, and the model hears it. A guidance of its own leads the sound, not the
    video, away from what the model would make without it: one pass more a step.
    """
    from ..families.ltx2 import REFERENCE
    from ..patches.reference_guidance import ReferenceGuidance

    if model.family.name != "ltx2":
        message = f"the model is {model.family.title}, which makes no sound"
        raise _refused("wrong_model", message, "model", "use LTX-2 with an ID-LoRA, or leave this node out")
    voices = _encoded(settings, reference_audio, audio_vae, "reference_audio")
    if len(voices) > 1:
        raise _refused("uneven_batch", f"there are {len(voices)} sounds", "reference_audio", "give it one")
    if identity_guidance_scale > 0.0:
        window = (start_percent, end_percent)
        model = model.with_patch(ReferenceGuidance(REFERENCE, identity_guidance_scale, window))
    return WithVoice(
        model,
        with_options(positive, **{REFERENCE: voices[0][None]}),
        with_options(negative, **{REFERENCE: voices[0][None]}),
    )


def _encoded(settings: Settings, audio: Any, audio_vae: Vae, input: str) -> list[Tensor]:
    """The latent [C, frames, bins] of each sound of an AUDIO."""
    from ..devices.use import open_device
    from ..families.ltx2_audio.network import latent_of
    from ..families.ltx2_audio.waves import MOST, mel, resampled, weights_for

    _check_audio(audio_vae)
    if audio is None or not audio["waveform"].numel():
        raise _refused("no_sound", "there is no sound", input, "the video that it comes from may be silent")
    config, rate = audio_vae.config.vae, int(audio["sample_rate"])
    to = int(config.sample_rate)
    if rate < 1 or weights_for(rate, to) > MOST:
        raise _refused(
            "wrong_rate",
            f"the sound has {rate} samples a second, which cannot be brought to {to}",
            input,
            "use a usual rate: 16000, 44100 or 48000",
        )
    channels = int(config.in_channels)
    found = []
    device = open_device(settings)
    with device.use(audio_vae, "vae") as part:
        for wave in audio["waveform"].float().cpu():
            sides = wave.expand(channels, -1) if len(wave) == 1 else wave[:channels]
            shown = mel(resampled(sides, rate, to), to, int(config.mel_hop_length), int(config.mel_bins))
            found.append(device.run(latent_of, part.module, shown))
    return found


def _sound_of(samples: Mapping[str, Any], audio_vae: Vae) -> Tensor:
    from ..families.ltx2_audio import CELL

    found: Tensor = samples["samples"]
    channels, bins = audio_vae.latent.channels, audio_vae.config.vae.mel_bins // CELL
    if found.dim() != 4 or found.shape[1] != channels or found.shape[3] != bins:
        raise _refused(
            "wrong_latent",
            f"the latent has the shape {list(found.shape)}, this audio VAE takes [batch, {channels}, frames, {bins}]",
            "samples",
            "link audio_latent of LTXVSeparateAVLatent",
        )
    return found


def _check_audio(vae: Vae) -> None:
    if vae.family.name != "ltx2_audio":
        raise _refused(
            "wrong_vae",
            f"this is the {vae.family.title}, which knows no sounds",
            "audio_vae",
            "load the audio VAE with LTXVAudioVAELoader",
        )


def _refused(code: str, message: str, input: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
