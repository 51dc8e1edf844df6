"""Videos in files, read and written by PyAV (extra `video`): their frames, sound, and the workflow in their tags.

A video on a link is a mapping (`images` float32 [N, H, W, 3] in 0..1, `fps`, `audio`, `bit_depth`), or a `VideoFile`,
whose frames are read when a node needs them. Sound is a mapping: `waveform` float32 [1, C, T] and `sample_rate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from graphflow import GraphFlowError, Handle, Problem

from ..limits import check_pixels
from .sound_files import decoded, encode

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = [
    "CODECS",
    "CONTAINERS",
    "Encoding",
    "VideoFacts",
    "VideoFile",
    "can_copy",
    "components",
    "compressed",
    "copy_streams",
    "facts_of",
    "part_of",
    "size_of",
    "write_video",
]

CODECS: Mapping[str, str] = {"h264": "libx264", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
"""Codec -> the encoder of FFmpeg that makes it."""
_SOUND = {"mp4": "aac", "mkv": "aac", "webm": "libopus"}
"""Container -> the encoder of its sound."""
CONTAINERS: Mapping[str, str] = {"mp4": "mp4", "mkv": "matroska", "webm": "webm"}
"""Ending -> container, as FFmpeg names it."""
_DEEP = 8
"""Bits of a colour, above which frames are read and written with 10."""


@dataclass(frozen=True, slots=True)
class VideoFile(Handle):
    """A video in a file, known by its content."""

    path: str
    digest: str

    def identity(self) -> Any:
        return ["video", self.digest]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How frames become a file."""

    container: str = "mp4"
    codec: str = "h264"
    crf: float = 23.0
    """The quality: smaller numbers are better and larger files."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a file states about its frames."""

    rate: Fraction
    """Frames a second."""
    frames: int
    container: str


def components(video: Any) -> Mapping[str, Any]:
    """The mapping of a video; the frames of a file are read. Raises a Problem for a file of another kind."""
    if isinstance(video, VideoFile):
        return _read(video)
    if isinstance(video, Mapping):
        return video
    found = video.get_components()  # of a node pack
    return {"images": found.images, "fps": float(found.frame_rate), "audio": found.audio}


def size_of(video: Any) -> tuple[int, int]:
    """Width and height in pixels."""
    if isinstance(video, VideoFile):
        with _opened(video) as container:
            stream = container.streams.video[0]
            return stream.codec_context.width, stream.codec_context.height
    images = components(video)["images"]
    return images.shape[2], images.shape[1]


def facts_of(video: VideoFile) -> VideoFacts:
    """Without decoding, where the file states its number of frames."""
    with _opened(video) as container:
        stream = container.streams.video[0]
        rate = _rate(stream)
        frames = int(stream.frames) or sum(1 for _ in container.decode(stream))
        return VideoFacts(rate, frames, str(container.format.name))


def compressed(image: Tensor, crf: int) -> Tensor:
    """An image [H, W, 3] in 0..1 as one frame of H.264 of this quality, read again: float32, sides cut to even ones.

    As diffusers prepares images for LTX models (`apply_image_conditioning_crf`)."""
    import torch
    from diffusers.pipelines.ltx2.utils import apply_image_conditioning_crf

    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    made = apply_image_conditioning_crf(pixels, crf)
    return torch.from_numpy(made).float() / 255


def part_of(whole: Mapping[str, Any], start_time: float, duration: float, strict_duration: bool) -> dict[str, Any]:
    """A part of the mapping of a video, with its sound. Times in seconds: a negative start counts from the end, a
    duration of 0 goes to the end. Raises a Problem where it is too short."""
    fps, count = float(whole["fps"]), len(whole["images"])
    begin = round(start_time * fps) if start_time >= 0 else max(0, count + round(start_time * fps))
    wanted = round(duration * fps) if duration else count - begin
    end = min(count, begin + wanted)
    if end <= begin or (strict_duration and end - begin < wanted):
        raise GraphFlowError(
            [
                Problem(
                    "too_short",
                    f"the video has {count / fps:.3g} seconds, too few for {duration:g} from {start_time:g} on",
                    input="duration",
                    hint="begin earlier, or make the part shorter",
                )
            ]
        )
    sound = whole.get("audio")
    if sound is not None:
        rate = int(sound["sample_rate"])
        first, last = round(begin / fps * rate), round(end / fps * rate)
        sound = {**sound, "waveform": sound["waveform"][..., first:last].clone()}
    return {**whole, "images": whole["images"][begin:end].clone(), "audio": sound}


def can_copy(video: Any, container: str, codec: str) -> bool:
    """Whether the streams of a file go into a container as they are: nothing is lost by encoding again."""
    if not isinstance(video, VideoFile):
        return False
    with _opened(video) as source:
        stated = source.streams.video[0].codec_context.name
        wanted = ("h264",) if container == "mp4" else ("h264", "av1", "vp9") if container == "mkv" else ("vp9", "av1")
        sound = {stream.codec_context.name for stream in source.streams.audio}
        fits = sound <= ({"opus", "vorbis"} if container == "webm" else {"aac"})
        name = {"libdav1d": "av1", "libvpx-vp9": "vp9"}.get(stated, stated)
        return name in wanted and codec in ("auto", name) and fits


def copy_streams(video: VideoFile, file: BinaryIO, container: str, texts: Mapping[str, str]) -> None:
    """Write the streams of a file into another with other tags, not a frame changed."""
    with _opened(video) as source, _writer(file, container, texts) as target:
        kept = [*source.streams.video[:1], *source.streams.audio[:1]]
        streams = {stream.index: target.add_stream_from_template(stream) for stream in kept}
        for packet in source.demux(kept):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)


def write_video(video: Mapping[str, Any], file: BinaryIO, encoding: Encoding, texts: Mapping[str, str]) -> None:
    """Encode a video into a file. A side of an odd number of pixels gets one more, a copy of the last."""
    import av
    import numpy as np

    images, audio = video["images"], video.get("audio")
    deep = int(video.get("bit_depth") or 8) > _DEEP
    if deep and encoding.codec == "vp9":
        raise _refused("bit_depth", "VP9 is written with 8 bits a colour here", "save as H.264 or AV1")
    rate = Fraction(float(video["fps"])).limit_denominator(65535)
    height, width = (side + side % 2 for side in images.shape[1:3])
    with _writer(file, encoding.container, texts) as target:
        options = {"crf": f"{encoding.crf:g}"}
        if encoding.codec == "vp9":
            options["b"] = "0"  # quality alone decides
        stream: Any = target.add_stream(CODECS[encoding.codec], rate=rate, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p10le" if deep else "yuv420p"
        sound = _sound_stream(target, encoding.container, audio)
        for image in images:
            pixels = _bytes(image, deep)
            pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb48le" if deep else "rgb24")))
        target.mux(stream.encode())
        if sound is not None and audio is not None:
            _encode_sound(target, sound, audio)


def _bytes(image: Tensor, deep: bool) -> np.ndarray:
    """[H, W, 3] in 0..1 as 8 or 16 bits a colour; cut, not rounded, as files of images."""
    import numpy as np

    most = 65535 if deep else 255
    scaled = image[..., :3].float().clamp(0, 1).numpy() * most
    return np.ascontiguousarray(scaled.astype(np.uint16 if deep else np.uint8))


def _writer(file: BinaryIO, container: str, texts: Mapping[str, str]) -> Any:
    import av

    options = {"movflags": "use_metadata_tags"} if container == "mp4" else {}
    target = av.open(file, mode="w", format=CONTAINERS[container], options=options)
    target.metadata.update(texts)
    return target


def _sound_stream(target: Any, container: str, audio: Mapping[str, Any] | None) -> Any:
    if audio is None:
        return None
    channels = audio["waveform"].shape[1]
    if channels not in (1, 2):
        raise _refused("audio", f"the sound has {channels} channels", "videos are written with one or two")
    stream: Any = target.add_stream(_SOUND[container], rate=48000 if container == "webm" else audio["sample_rate"])
    stream.layout = "mono" if channels == 1 else "stereo"
    return stream


def _encode_sound(target: Any, stream: Any, audio: Mapping[str, Any]) -> None:
    encode(target, stream, audio["waveform"][0].float().numpy(), int(audio["sample_rate"]))


def _opened(video: VideoFile) -> Any:
    """Raises a Problem where the file cannot be read, or holds no video."""
    import av

    path = Path(video.path)
    try:
        container = av.open(str(path))
    except (OSError, ValueError) as error:  # the errors of PyAV are of both kinds
        raise _refused("unreadable_video", f"{path.name} cannot be read: {error}", "use an MP4, MKV or WebM") from None
    if not container.streams.video:
        container.close()
        raise _refused("no_video", f"{path.name} holds no video", "use an MP4, MKV or WebM with a video")
    return container


def _read(video: VideoFile) -> Mapping[str, Any]:
    import av
    import numpy as np
    import torch

    with _opened(video) as container:
        stream = container.streams.video[0]
        deep = max((part.bits for part in stream.format.components), default=8) > _DEEP if stream.format else False
        fps = float(_rate(stream))
        frames: list[np.ndarray] = []
        try:
            for frame in container.decode(stream):
                check_pixels(frame.width, frame.height, len(frames) + 1, input="video")
                frames.append(_turned(frame.to_ndarray(format="rgb48le" if deep else "rgb24"), frame.rotation))
        except av.FFmpegError as error:
            name = Path(video.path).name
            raise _refused("damaged_video", f"{name} is damaged after {len(frames)} frames: {error}", "") from None
    if not frames:
        raise _refused("no_frames", f"{Path(video.path).name} has no frames", "use another file")
    pixels = torch.from_numpy(np.stack(frames).astype(np.float32)) / (65535.0 if deep else 255.0)
    return {"images": pixels, "fps": fps, "audio": _read_sound(video), "bit_depth": 10 if deep else 8}


def _rate(stream: Any) -> Fraction:
    """Frames a second, as a file states them."""
    return Fraction(stream.average_rate or stream.guessed_rate or 24)


def _turned(pixels: np.ndarray, rotation: int) -> np.ndarray:
    """As a player shows it: cameras write how they were held."""
    import numpy as np

    return np.rot90(pixels, round(rotation / 90)) if rotation else pixels


def _read_sound(video: VideoFile) -> dict[str, Any] | None:
    import torch

    with _opened(video) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        waveform, rate = decoded(container, stream, Path(video.path).name, "video"), int(stream.rate)
    return None if waveform is None else {"waveform": torch.from_numpy(waveform)[None], "sample_rate": rate}


def _refused(code: str, message: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input="video", hint=hint or None)])
