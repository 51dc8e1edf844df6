"""Sounds: loaded, saved, cut (files need the package PyAV, extra `video`).

AUDIO is a mapping with `waveform` float32 [B, C, T] in -1..1 and `sample_rate`; None where a video has no sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import (
    Choice,
    Context,
    GraphFlowError,
    Help,
    PassedOn,
    Problem,
    Range,
    Settings,
    Ui,
    Upload,
    Variants,
    node,
)
from graphflow.spi import sound_kind

from ..devices.environment import hearing, output_files, temp_files
from ..files.user_files import files_below, files_written, input_digest, input_path, other_folders, save_numbered
from ..limits import check_sound
from .video import ENDINGS as VIDEO_ENDINGS
from .video import Audio, needs_av, saves_by_av

if TYPE_CHECKING:
    from typing import BinaryIO

    import numpy as np

ENDINGS = (".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aiff", ".aif", *VIDEO_ENDINGS)
"""Of files that are listed as sounds: videos have one, too."""
_LONGEST = 18446744073709551615.0
"""Seconds, as ComfyUI bounds them."""
_Mp3Quality = Annotated[str, Choice(("V0", "128k", "320k")), Help("V0: the best variable bit rate")]
_OpusQuality = Annotated[str, Choice(("64k", "96k", "128k", "192k", "320k"))]


class SavedAudio(NamedTuple):
    audio: Annotated[Audio, PassedOn()]


# -- checks before the run -------------------------------------------------------------------------------------------


_needs_package, _saves = needs_av("sounds"), saves_by_av("sounds")


def _loads(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    """The first bytes of the file are read here, and not more: nothing of a stranger is decoded before the run."""
    yield from _needs_package(settings, literals, types)
    if "audio" not in literals:
        return
    try:
        with input_path(settings, literals["audio"]).open("rb") as file:
            kind = sound_kind(file)
    except (OSError, GraphFlowError):  # that it is not there is found by the choice
        return
    if kind is None:
        kinds = "WAV, FLAC, MP3, Ogg, Opus, M4A, AAC, AIFF and videos with sound are"
        yield "audio", f"{literals['audio'][:200]} does not begin as a file with sound does: {kinds} read"


def _makes(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    if {"duration", "sample_rate", "channels"} <= literals.keys():
        try:
            _silence(literals["duration"], literals["sample_rate"], literals["channels"])
        except GraphFlowError as error:
            for problem in error.problems:
                yield "duration", f"{problem.message}; {problem.hint}"


def _cuts(
    settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    if literals.get("duration") == 0:
        yield "duration", "a part of 0 seconds has no sound: state how many seconds are wanted"


# -- nodes -----------------------------------------------------------------------------------------------------------


def _names(settings: Settings) -> list[str]:
    return files_below(settings.input_dir, ENDINGS)


_InputAudio = Annotated[str, Choice(_names, "input", other_folders(ENDINGS)), Upload("audio")]


def _audio_digest(settings: Settings, audio: str) -> str:
    return input_digest(settings, audio)


@node(
    "LoadAudio",
    category="audio",
    display_name="Load Audio",
    version="1",
    outside=_audio_digest,
    environment=hearing,
    check=_loads,
)
def load_audio(settings: Settings, audio: _InputAudio) -> Audio:
    """Read a sound of the input folder, or the sound of a video, at its own sample rate and with all its channels."""
    from ..files.sound_files import read_sound

    return read_sound(input_path(settings, audio))


@node("EmptyAudio", category="audio", display_name="Empty Audio", version="1", check=_makes)
def empty_audio(
    duration: Annotated[float, Range(0.0, _LONGEST, 0.01), Help("seconds")] = 60.0,
    sample_rate: Annotated[int, Range(1, 192_000), Help("samples a second")] = 44100,
    channels: Annotated[int, Range(1, 2), Help("1 is mono, 2 is stereo")] = 2,
) -> Audio:
    """Silence."""
    import torch

    samples = _silence(duration, sample_rate, channels)
    return {"waveform": torch.zeros(1, channels, samples), "sample_rate": sample_rate}


def _silence(duration: float, sample_rate: int, channels: int) -> int:
    """Samples of each channel. Raises a Problem where there are none, or too many."""
    samples = round(duration * sample_rate)
    if samples < 1:
        found = f"{duration:g} seconds of {sample_rate:,} samples a second have no samples"
        raise _refused("too_short", found, "duration", "make it longer")
    check_sound(samples, channels, "duration")
    return samples


@node("TrimAudioDuration", category="audio", display_name="Trim Audio Duration", version="1", check=_cuts)
def trim_audio_duration(
    audio: Audio,
    start_index: Annotated[float, Range(-_LONGEST, _LONGEST, 0.01), Help("seconds; from the end where negative")] = 0.0,
    duration: Annotated[float, Range(0.0, _LONGEST, 0.01), Help("seconds")] = 60.0,
) -> Audio:
    """A part of a sound. It ends where the sound ends, if that is earlier."""
    _check_there(audio)
    waveform, rate = audio["waveform"], int(audio["sample_rate"])
    samples = waveform.shape[-1]
    begin = round(start_index * rate)
    begin = max(0, samples + begin) if begin < 0 else begin
    end = min(samples, begin + round(duration * rate))
    if begin >= samples:
        found = f"the sound has {samples / rate:.4g} seconds, and the part begins at {start_index:g}"
        raise _refused("too_short", found, "start_index", "begin earlier")
    if end <= begin:
        found = f"a part of {duration:g} seconds has no samples"
        raise _refused("too_short", found, "duration", "make it longer")
    return {**audio, "waveform": waveform[..., begin:end].clone()}


@node(
    "SaveAudio",
    category="audio",
    display_name="Save Audio (FLAC)",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=_saves,
)
def save_audio(audio: Audio, context: Context, filename_prefix: str = "audio/ComfyUI") -> Ui[SavedAudio]:
    """Write a sound as FLAC with 16 bits a sample into the output folder, with the workflow in its tags, and give it
    on."""
    return _saved(audio, context, context.settings.output_dir, filename_prefix, "output", "flac")


@node(
    "SaveAudioMP3",
    category="audio",
    display_name="Save Audio (MP3)",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=_saves,
)
def save_audio_mp3(
    audio: Audio, context: Context, filename_prefix: str = "audio/ComfyUI", quality: _Mp3Quality = "V0"
) -> Ui[SavedAudio]:
    """Write a sound as MP3 into the output folder, with the workflow in its tags, and give it on.

    Of a sample rate that MP3 does not know, the next higher one is written; above 48,000 Hz, 48,000.
    """
    return _saved(audio, context, context.settings.output_dir, filename_prefix, "output", "mp3", quality)


@node(
    "SaveAudioOpus",
    category="audio",
    display_name="Save Audio (Opus)",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=_saves,
)
def save_audio_opus(
    audio: Audio, context: Context, filename_prefix: str = "audio/ComfyUI", quality: _OpusQuality = "128k"
) -> Ui[SavedAudio]:
    """Write a sound as Opus into the output folder, with the workflow in its tags, and give it on.

    Of a sample rate that Opus does not know, the next higher one is written; above 48,000 Hz, 48,000. One channel has
    at most 256 kbit a second.
    """
    return _saved(audio, context, context.settings.output_dir, filename_prefix, "output", "opus", quality)


@dataclass(frozen=True, slots=True)
class AsFlac:
    pass


@dataclass(frozen=True, slots=True)
class AsMp3:
    quality: _Mp3Quality = "V0"


@dataclass(frozen=True, slots=True)
class AsOpus:
    quality: _OpusQuality = "128k"


_FORMATS = {"flac": AsFlac, "mp3": AsMp3, "opus": AsOpus}
_FORMAT_NAMES = {chosen: name for name, chosen in _FORMATS.items()}


@node(
    "SaveAudioAdvanced",
    category="audio",
    display_name="Save Audio (Advanced)",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=_saves,
)
def save_audio_advanced(
    audio: Audio,
    context: Context,
    filename_prefix: str = "audio/ComfyUI",
    *,
    format: Annotated[Any, Variants(_FORMATS)],
) -> Ui[SavedAudio]:
    """Write a sound as FLAC, MP3 or Opus into the output folder, with the workflow in its tags, and give it on: as
    SaveAudio, SaveAudioMP3 and SaveAudioOpus do."""
    name, quality = _FORMAT_NAMES[type(format)], getattr(format, "quality", None)
    return _saved(audio, context, context.settings.output_dir, filename_prefix, "output", name, quality)


@node(
    "PreviewAudio",
    category="audio",
    display_name="Preview Audio",
    version="1",
    output=True,
    effect=files_written,
    environment=temp_files,
    check=_needs_package,
)
def preview_audio(audio: Audio, context: Context) -> Ui[SavedAudio]:
    """Write a sound as FLAC into the folder for temporary files, and give it on."""
    return _saved(audio, context, context.settings.temp_dir, "preview", "temp", "flac")


def _saved(
    audio: Any, context: Context, folder: Path, prefix: str, kind: str, name: str, quality: str | None = None
) -> Ui[SavedAudio]:
    """Each sound of a batch becomes a numbered file; `kind` is ComfyUI's name of the folder."""
    from ..files.sound_files import FORMATS, check_written, write_sound

    form, texts = FORMATS[name], context.metadata()
    _check_there(audio)
    check_written(audio, form)
    rate = int(audio["sample_rate"])

    def write(waveform: np.ndarray, file: BinaryIO) -> None:
        write_sound(waveform, rate, file, form, quality, texts, context.check_cancelled)

    sounds = audio["waveform"].detach().float().cpu().numpy()
    contents = [partial(write, sound) for sound in sounds]
    return Ui({"audio": save_numbered(contents, context, folder, prefix, form.ending, kind)}, (audio,))


def _check_there(audio: Any) -> None:
    if audio is None:
        raise _refused("no_sound", "there is no sound: a video without one gives none", "audio", "link another sound")


def _refused(code: str, message: str, input: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
