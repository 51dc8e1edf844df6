"""Videos: made of images, saved, loaded, taken apart (needs the package PyAV, extra `video`).

VIDEO is a mapping or a file (see files/video_files.py); AUDIO is a mapping with `waveform` float32 [B, C, T] and
`sample_rate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from graphflow import (
    Choice,
    Context,
    GraphFlowError,
    Help,
    Image,
    Problem,
    Range,
    Settings,
    Ui,
    Upload,
    Variants,
    Wire,
    node,
)

from ..devices.environment import output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_below, files_written, input_digest, input_path, other_folders, save_numbered

if TYPE_CHECKING:
    from typing import BinaryIO

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""Of files that are listed as videos."""
Video = Annotated[Any, Wire("VIDEO")]
Audio = Annotated[Any, Wire("AUDIO")]
_Fps = Annotated[float, Range(1.0, 120.0, 0.01)]
_AUTO, _DEPTHS = "auto", (8, 10)
_BitDepth = Annotated[
    Any,
    Wire("COMBO,INT"),
    Choice((_AUTO, *_DEPTHS)),
    Help("bits of a colour in files; auto is 8. A link may bring the number, as of GetVideoComponents"),
]
_Crf = Annotated[float, Range(0.0, 63.0, 1.0), Help("the quality: smaller numbers are better and larger files")]


_Check = Callable[[Settings, Mapping[str, Any], Mapping[str, str]], Iterator[tuple[str | None, str]]]


def needs_av(things: str) -> _Check:
    """The `check` of nodes that read or write files of such things by PyAV."""

    def check(
        settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
    ) -> Iterator[tuple[str | None, str]]:
        if find_spec("av") is None:
            install = "pip install 'graphflow-engine[video]'"
            yield None, f"{things} are read and written by the package av, which is not installed: {install}"

    return check


def saves_by_av(things: str) -> _Check:
    """The same of nodes that write such files into the output folder."""
    needs = needs_av(things)

    def check(
        settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]
    ) -> Iterator[tuple[str | None, str]]:
        yield from needs(settings, literals, types)
        yield from check_prefix(settings, literals, types)

    return check


needs_package, _saves = needs_av("videos"), saves_by_av("videos")


def _names(settings: Settings) -> list[str]:
    return files_below(settings.input_dir, ENDINGS)


_InputVideo = Annotated[str, Choice(_names, "input", other_folders(ENDINGS)), Upload("video")]


def _video_digest(settings: Settings, file: str) -> str:
    return input_digest(settings, file)


class VideoParts(NamedTuple):
    images: Image
    audio: Audio
    fps: float
    bit_depth: int


_Codec = Annotated[str, Choice(("auto", "h264", "av1"))]


@dataclass(frozen=True, slots=True)
class AsAuto:
    codec: _Codec = "auto"


@dataclass(frozen=True, slots=True)
class AsMp4:
    codec: _Codec = "auto"


@dataclass(frozen=True, slots=True)
class AsMkv:
    codec: _Codec = "auto"


@dataclass(frozen=True, slots=True)
class AsWebm:
    codec: Annotated[str, Choice(("auto", "vp9", "av1"))] = "auto"


_FORMATS = {"auto": AsAuto, "mp4": AsMp4, "mkv": AsMkv, "webm": AsWebm}
_CONTAINERS = {AsAuto: "mp4", AsMp4: "mp4", AsMkv: "mkv", AsWebm: "webm"}
_CRF = {"h264": 23.0, "av1": 30.0, "vp9": 32.0}


@node("CreateVideo", category="image/video", display_name="Create Video", version="1")
def create_video(
    images: Image,
    fps: _Fps = 30.0,
    audio: Audio | None = None,
    bit_depth: _BitDepth = _AUTO,
) -> Video:
    """Images one after another as a video, with sound."""
    depth = _DEPTHS[0] if bit_depth == _AUTO else bit_depth
    if depth not in _DEPTHS:
        raise GraphFlowError(
            [
                Problem(
                    "not_a_choice",
                    f"{bit_depth!r} bits a colour; videos are written with 8 or 10",
                    input="bit_depth",
                    hint="use auto, or link bit_depth of GetVideoComponents",
                )
            ]
        )
    return {"images": images[..., :3], "fps": fps, "audio": audio, "bit_depth": int(depth)}


@node("GetVideoComponents", category="image/video", display_name="Get Video Components", version="1")
def get_video_components(video: Video) -> VideoParts:
    """The frames of a video as images, its sound (nothing where it has none), and the frames a second."""
    from ..files.video_files import components

    found = components(video)
    return VideoParts(found["images"], found.get("audio"), found["fps"], int(found.get("bit_depth") or 8))


@node(
    "LoadVideo",
    category="image/video",
    display_name="Load Video",
    version="1",
    outside=_video_digest,
    check=needs_package,
)
def load_video(settings: Settings, file: _InputVideo) -> Video:
    """Name a video of the input folder. Its frames are read by the nodes that need them."""
    from ..files.video_files import VideoFile

    path = input_path(settings, file)
    return VideoFile(str(path), settings.digests.of(path))


@node("Video Slice", category="image/video", display_name="Video Slice", version="1")
def video_slice(
    video: Video,
    start_time: Annotated[float, Range(-1e5, 1e5, 0.001), Help("seconds; from the end where negative")] = 0.0,
    duration: Annotated[float, Range(0.0, 1e5, 0.001), Help("seconds; 0: to the end")] = 0.0,
    strict_duration: Annotated[bool, Help("fail where the video is shorter")] = False,
) -> Video:
    """A part of a video."""
    from ..files.video_files import components, part_of

    return part_of(components(video), start_time, duration, strict_duration)


@node(
    "SaveVideo",
    category="image/video",
    display_name="Save Video",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=_saves,
)
def save_video(
    video: Video,
    context: Context,
    filename_prefix: str = "video/ComfyUI",
    *,
    format: Annotated[Any, Variants(_FORMATS)],
    codec: Annotated[
        str, Choice(("auto", "h264", "av1", "vp9")), Help("of older workflows: that of the format counts")
    ] = "auto",
) -> Ui[Video]:
    """Write a video into the output folder, with the workflow in its tags.

    `auto` is MP4 with H.264 and AAC. A video that was loaded is copied as it is where the format can hold it.
    """
    from ..files.video_files import Encoding, can_copy, components, copy_streams, size_of, write_video

    container = _CONTAINERS[type(format)]
    wanted = codec if format.codec == "auto" else format.codec
    texts = context.metadata()

    def write(file: BinaryIO) -> None:
        if can_copy(video, container, wanted):
            copy_streams(video, file, container, texts)
            return
        chosen = ("vp9" if container == "webm" else "h264") if wanted == "auto" else wanted
        write_video(components(video), file, Encoding(container, chosen, _CRF[chosen]), texts)

    return Ui(_saved(context, write, filename_prefix, f".{container}", size_of(video)), (video,))


@node(
    "SaveWEBM",
    category="image/video",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=_saves,
)
def save_webm(
    context: Context,
    images: Image,
    filename_prefix: str = "ComfyUI",
    *,
    codec: Annotated[str, Choice(("vp9", "av1"))],
    fps: Annotated[float, Range(0.01, 1000.0, 0.01)] = 24.0,
    crf: _Crf = 32.0,
) -> Ui[Image]:
    """Write images one after another as a WebM video into the output folder, with the workflow in its tags."""
    from ..files.video_files import Encoding, write_video

    made = {"images": images, "fps": fps}
    texts = context.metadata()
    size = images.shape[2], images.shape[1]

    def write(file: BinaryIO) -> None:
        write_video(made, file, Encoding("webm", codec, crf), texts)

    return Ui(_saved(context, write, filename_prefix, ".webm", size), (images,))


def _saved(
    context: Context, write: Callable[[BinaryIO], None], prefix: str, ending: str, size: tuple[int, int]
) -> dict[str, Any]:
    folder = context.settings.output_dir
    saved = save_numbered([write], context, folder, prefix, ending, "output", size)
    return {"images": saved, "animated": [True]}
