"""Sounds in files, read and written by PyAV (extra `video`), with the workflow in their tags.

A sound on a link is a mapping: `waveform` float32 [B, C, T] in -1..1 and `sample_rate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from graphflow import GraphFlowError, Problem
from graphflow.spi import sound_kind

from ..limits import check_sound

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FORMATS", "SoundFormat", "check_written", "decoded", "encode", "read_sound", "write_sound"]

_BLOCK = 1 << 20
"""Samples that are encoded at a time."""
_BEST_VBR = "V0"
_PER_CHANNEL = 256_000
"""The highest bit rate of a channel of Opus (RFC 6716)."""
_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
"""By the number of channels, as FLAC orders them (RFC 9639, 9.1.3)."""
_PARTLY_FINE = 65_535
"""Hz. Above it, FLAC states rates in steps of 10 Hz."""


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """How a sound becomes a file."""

    title: str
    ending: str
    container: str
    """As FFmpeg names it, and likewise the encoder."""
    encoder: str
    channels: int
    """The most that it has."""
    rates: tuple[int, ...] = ()
    """The sample rates that it knows, rising; none: all up to 655,350 Hz."""


FORMATS: Mapping[str, SoundFormat] = {
    "flac": SoundFormat("FLAC", ".flac", "flac", "flac", 8),
    "mp3": SoundFormat(
        "MP3", ".mp3", "mp3", "libmp3lame", 2, (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
    ),
    "opus": SoundFormat("Opus", ".opus", "opus", "libopus", 2, (8000, 12000, 16000, 24000, 48000)),
}


def read_sound(path: Path) -> dict[str, Any]:
    """The first sound of a file, at its own rate: float32 [1, C, T]. Raises a Problem where there is none, or where the
    file is damaged.

    The first bytes decide how a file is read, so that a list of other files is not taken for a sound.
    """
    import av
    import torch

    with path.open("rb") as file:
        kind = sound_kind(file)
    if kind is None:
        raise _refused("not_a_sound", f"{path.name} does not begin as a file with sound does", _KINDS)
    try:
        container = av.open(str(path), format=kind)
    except (OSError, ValueError) as error:  # the errors of PyAV are of both kinds
        raise _refused("unreadable_audio", f"{path.name} cannot be read: {error}", _KINDS) from None
    with container:
        if not container.streams.audio:
            raise _refused("no_sound", f"{path.name} holds no sound", "use a file with a sound")
        stream = container.streams.audio[0]
        stated = int(stream.duration or 0) if kind == "flac" else 0  # there it is the number of samples, exactly
        waveform = decoded(container, stream, path.name)
        if waveform is None or waveform.shape[1] == 0:
            raise _refused("no_sound", f"the sound of {path.name} has no samples", "use another file")
        if waveform.shape[1] < stated:
            found = f"{path.name} is damaged: {waveform.shape[1]:,} of {stated:,} samples can be read"
            raise _refused("damaged_audio", found, "use a copy that is whole")
        return {"waveform": torch.from_numpy(waveform)[None], "sample_rate": int(stream.rate)}


_KINDS = "use WAV, FLAC, MP3, Ogg, Opus, M4A, AAC or AIFF, or a video with sound"


def decoded(container: Any, stream: Any, name: str, input: str = "audio") -> np.ndarray | None:
    """float32 [C, T] of a stream at its own rate, None where it has no frames. Raises a Problem where it is damaged."""
    import av
    import numpy as np

    # Not "fltp": with eight channels, PyAV 18 looks for a ninth plane behind the end of its list, and the process dies.
    resampler: Any = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
    parts: list[np.ndarray] = []
    samples = 0
    try:
        for frame in container.decode(stream):
            samples += frame.samples
            check_sound(samples, stream.channels, input)
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
        parts += [part.to_ndarray() for part in resampler.resample(None)]
    except (
        av.FFmpegError,
        ValueError,
    ) as error:  # of frames that are unlike the first, the resampler raises ValueError
        found = f"{name} is damaged after {samples / stream.rate:.1f} seconds of sound: {error}"
        raise _refused("damaged_audio", found, "use a copy that is whole", input) from None
    if not parts:
        return None
    return np.ascontiguousarray(np.concatenate(parts, axis=1).reshape(-1, stream.channels).T)


def check_written(audio: Mapping[str, Any], form: SoundFormat) -> None:
    """Raises a Problem where a format cannot hold a sound."""
    _, channels, samples = audio["waveform"].shape
    rate = int(audio["sample_rate"])
    if not samples:
        raise _refused("no_sound", "the sound has no samples", "link another sound")
    if channels > form.channels:
        hint = "FLAC holds up to 8 channels"
        raise _refused(
            "too_many_channels", f"the sound has {channels} channels, {form.title} holds {form.channels}", hint
        )
    if not form.rates and (rate > 655_350 or (rate > _PARTLY_FINE and rate % 10)):
        hint = "FLAC holds rates up to 65,535 Hz, and up to 655,350 Hz in steps of 10 Hz"
        raise _refused("wrong_rate", f"the sound has {rate:,} samples a second", hint)


def write_sound(
    waveform: np.ndarray,
    rate: int,
    file: BinaryIO,
    form: SoundFormat,
    quality: str | None,
    texts: Mapping[str, str],
    between: Callable[[], None] = lambda: None,
) -> None:
    """Encode float32 [C, T] into a file; FLAC has 16 bits a sample. `between` is called between blocks, and may raise.

    Of a rate that the format does not know, the next higher one is written, or its highest. Equal sounds give equal
    bytes.
    """
    import av

    written = next((known for known in form.rates if known >= rate), form.rates[-1]) if form.rates else rate
    options = {"flags": "+qscale", "global_quality": "0"} if quality == _BEST_VBR else {}
    with av.open(file, mode="w", format=form.container, options={"fflags": "+bitexact"}) as target:
        target.metadata.update(texts)
        stream: Any = target.add_stream(form.encoder, rate=written, options=options)
        stream.layout = _LAYOUTS[waveform.shape[0] - 1]
        if quality is not None and quality != _BEST_VBR:
            rate_of_bits = 1000 * int(quality.removesuffix("k"))
            stream.bit_rate = min(rate_of_bits, _PER_CHANNEL * len(waveform)) if form.title == "Opus" else rate_of_bits
        encode(target, stream, waveform, rate, between)


def encode(
    target: Any, stream: Any, waveform: np.ndarray, rate: int, between: Callable[[], None] = lambda: None
) -> None:
    """Put float32 [C, T] into a stream of a file that is being written, resampled where it has another rate."""
    import av
    import numpy as np

    form, layout = stream.codec_context.format, stream.layout
    resampler: Any = av.AudioResampler(format=form, layout=layout, rate=stream.rate)
    as_16_bits = form.name == "s16" and stream.rate == rate
    for begin in range(0, waveform.shape[1], _BLOCK):
        between()
        block = waveform[:, begin : begin + _BLOCK]
        if as_16_bits:  # the nearest step, so that what was read from 16 bits is written as it was
            steps = np.clip(np.rint(block * 32768.0), -32768, 32767).astype(np.int16)
            frame: Any = av.AudioFrame.from_ndarray(steps.T.reshape(1, -1), format="s16", layout=layout.name)
        else:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        for part in resampler.resample(frame):
            target.mux(stream.encode(part))
    for part in resampler.resample(None):
        target.mux(stream.encode(part))
    target.mux(stream.encode())


def _refused(code: str, message: str, hint: str, input: str = "audio") -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
