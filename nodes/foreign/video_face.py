"""A VIDEO as nodes of packs see it, and the classes that they make one with (`comfy_api.input_impl`).

images = video.get_components().images
video.save_to("here.mp4", metadata={"prompt": prompt})

A file is read when it is asked for something, through PyAV (extra `video`).
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

from graphflow import GraphFlowError, Problem
from graphflow.spi import current_settings

from ..files import video_files
from ..files.video_files import Encoding, VideoFile

__all__ = ["VideoComponents", "VideoFromComponents", "VideoFromFile", "VideoInput", "is_mapping", "video_of_pack"]

_KEYS = {"images", "fps", "audio", "bit_depth"}
_CRF = {"h264": 23.0, "av1": 30.0, "vp9": 32.0}
_USUAL_RATES = 1001
"""The largest denominator of frame rates in use: 30000/1001."""


@dataclass
class VideoComponents:
    """Images [B,H,W,C], how many of them a second shows, and what is heard."""

    images: Any
    frame_rate: Fraction
    audio: Any = None
    metadata: dict[str, Any] | None = None


class VideoInput(ABC):
    """A value of type VIDEO. Packs may write classes of their own with the first two methods."""

    @abstractmethod
    def get_components(self) -> VideoComponents:
        """Its images, sound and frame rate."""

    @abstractmethod
    def save_to(
        self,
        path: Any,
        format: str = "auto",
        codec: str = "auto",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write it into a file: a path, or an open file."""

    def get_stream_source(self) -> str | io.BytesIO:
        """The path of its file, or its bytes."""
        stream = io.BytesIO()
        self.save_to(stream)
        stream.seek(0)
        return stream

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        images = self.get_components().images
        return images.shape[2], images.shape[1]

    def get_frame_count(self) -> int:
        return len(self.get_components().images)

    def get_frame_rate(self) -> Fraction:
        """Frames a second."""
        return Fraction(self.get_components().frame_rate)

    def get_duration(self) -> float:
        """Seconds."""
        return float(self.get_frame_count() / self.get_frame_rate())

    def get_container_format(self) -> str:
        """As FFmpeg names it; several, with commas between, where one reader serves them."""
        source = self.get_stream_source()
        with _as_file(source) as video:
            return video_files.facts_of(video).container

    def as_trimmed(self, start_time: float = 0.0, duration: float = 0.0, strict_duration: bool = False) -> VideoInput:
        """A part of it, in seconds; a duration of 0 goes to its end. Raises a Problem where it is too short."""
        whole = _mapping_of(self)
        return VideoFromComponents(video_files.part_of(whole, start_time, duration, strict_duration))


class VideoFromFile(VideoInput):
    """A file: a path, or a stream with its bytes."""

    def __init__(self, file: str | Path | io.BytesIO, *, handle: VideoFile | None = None) -> None:
        self._file = file
        self.handle = handle
        """The value of a link that this one stands for."""

    def get_stream_source(self) -> str | io.BytesIO:
        """The path, or the stream at its start."""
        if isinstance(self._file, io.BytesIO):
            self._file.seek(0)
            return self._file
        return str(self._file)

    def get_components(self) -> VideoComponents:
        with _as_file(self.get_stream_source()) as video:
            return _components(video_files.components(video))

    def get_dimensions(self) -> tuple[int, int]:
        with _as_file(self.get_stream_source()) as video:
            return video_files.size_of(video)

    def get_frame_rate(self) -> Fraction:
        with _as_file(self.get_stream_source()) as video:
            return video_files.facts_of(video).rate

    def get_frame_count(self) -> int:
        with _as_file(self.get_stream_source()) as video:
            return video_files.facts_of(video).frames

    def save_to(
        self, path: Any, format: str = "auto", codec: str = "auto", metadata: Mapping[str, Any] | None = None
    ) -> None:
        """The same file where nothing else is asked for, its streams where the format holds them, else encoded anew."""
        source = self.get_stream_source()
        ending = Path(source).suffix.lstrip(".").lower() if isinstance(source, str) else "auto"
        if codec == "auto" and format in ("auto", ending) and not metadata:
            _copied(source, path)
            return
        with _as_file(source) as video:
            container = _container(format, path)
            if video_files.can_copy(video, container, codec):
                _written(path, lambda file: video_files.copy_streams(video, file, container, _texts(metadata)))
            else:
                _encoded(video_files.components(video), path, container, codec, metadata)


class VideoFromComponents(VideoInput):
    """Images in a row, in memory."""

    def __init__(self, components: VideoComponents | Mapping[str, Any]) -> None:
        self._components = components if isinstance(components, VideoComponents) else _components(components)
        self.bit_depth = int(components.get("bit_depth") or 8) if isinstance(components, Mapping) else 8

    def get_components(self) -> VideoComponents:
        return self._components

    def save_to(
        self, path: Any, format: str = "auto", codec: str = "auto", metadata: Mapping[str, Any] | None = None
    ) -> None:
        """MP4 with H.264 unless the format, the codec or the ending of the path says otherwise."""
        _encoded(_mapping_of(self), path, _container(format, path), codec, metadata)


def is_mapping(value: Any) -> bool:
    """Whether it is the mapping that a VIDEO of our nodes is."""
    return type(value) is dict and value.keys() == _KEYS


def video_of_pack(video: VideoInput) -> Any:
    """The value of our links that stands for a video of a pack; a class of the pack's own stays as it is."""
    if type(video) is VideoFromComponents:
        return _mapping_of(video)
    if type(video) is VideoFromFile:
        source = video.get_stream_source()
        if video.handle is not None:
            return video.handle
        if isinstance(source, str) and Path(source).is_file():
            return VideoFile(source, current_settings().digests.of(Path(source)))
    return video


def _components(mapping: Mapping[str, Any]) -> VideoComponents:
    rate = Fraction(float(mapping["fps"])).limit_denominator(_USUAL_RATES)
    return VideoComponents(mapping["images"], rate, mapping.get("audio"))


def _mapping_of(video: VideoInput) -> dict[str, Any]:
    found = video.get_components()
    bits = getattr(video, "bit_depth", 8)
    return {"images": found.images, "fps": float(found.frame_rate), "audio": found.audio, "bit_depth": bits}


class _as_file:
    """The file of a source, as `video_files` reads it: that of bytes is gone at the end of the block."""

    def __init__(self, source: str | io.BytesIO) -> None:
        self._source = source
        self._temporary: Any = None

    def __enter__(self) -> VideoFile:
        if isinstance(self._source, str):
            return VideoFile(self._source, "")
        self._temporary = tempfile.NamedTemporaryFile(suffix=".video")
        self._temporary.write(self._source.getvalue())
        self._temporary.flush()
        return VideoFile(self._temporary.name, "")

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.close()


def _copied(source: str | io.BytesIO, path: Any) -> None:
    def write(file: BinaryIO) -> None:
        if isinstance(source, str):
            with open(source, "rb") as opened:
                shutil.copyfileobj(opened, file)
        else:
            file.write(source.getvalue())

    _written(path, write)


def _encoded(
    video: Mapping[str, Any], path: Any, container: str, codec: str, metadata: Mapping[str, Any] | None
) -> None:
    chosen = ("vp9" if container == "webm" else "h264") if codec == "auto" else str(codec)
    if chosen not in _CRF:
        raise _refused(f"there is no codec {chosen[:40]!r} here", f"these are: {', '.join(_CRF)}")
    encoding = Encoding(container, chosen, _CRF[chosen])
    _written(path, lambda file: video_files.write_video(video, file, encoding, _texts(metadata)))


def _written(path: Any, write: Any) -> None:
    if hasattr(path, "write"):
        write(cast(BinaryIO, path))
        return
    with open(path, "wb") as file:
        write(file)


def _container(format: str, path: Any) -> str:
    """The container that is asked for; that of the path's ending, or MP4, where none is."""
    ending = Path(path).suffix.lstrip(".").lower() if isinstance(path, str | Path) else ""
    chosen = str(format) if format != "auto" else ending if ending in video_files.CONTAINERS else "mp4"
    if chosen not in video_files.CONTAINERS:
        raise _refused(f"there is no format {chosen[:40]!r} here", f"these are: {', '.join(video_files.CONTAINERS)}")
    return chosen


def _texts(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in (metadata or {}).items()
        if value is not None
    }


def _refused(message: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem("no_video_format", message, hint=hint)])
