"""Videos: images in a row, and files that are passed on. Neither becomes the other here: nodes do that."""

import io
import shutil
from pathlib import Path

from comfy_api.input import VideoInput
from comfy_api.util import VideoComponents
from graphflow import GraphFlowError, Problem

__all__ = ["VideoFromComponents", "VideoFromFile"]


class VideoFromFile(VideoInput):
    """A file (a path or a stream), passed on as it is."""

    def __init__(self, file):
        self._file = file

    def get_stream_source(self):
        """The path, or the stream at its start."""
        if isinstance(self._file, io.BytesIO):
            self._file.seek(0)
        return self._file

    def get_components(self) -> VideoComponents:
        raise _no_codec("the images of a video file cannot be read")

    def get_dimensions(self):
        raise _no_codec("the size of a video file cannot be read")

    def save_to(self, path, format="auto", codec="auto", metadata=None):
        """Copy the file; raises where it would have to be another one."""
        source = self.get_stream_source()
        ending = Path(source).suffix.lstrip(".") if not isinstance(source, io.BytesIO) else "auto"
        if codec != "auto" or format not in ("auto", ending):
            raise _no_codec(f"a video file cannot be made {format} with the codec {codec}")
        if isinstance(source, io.BytesIO):
            Path(path).write_bytes(source.getvalue())
        else:
            shutil.copyfile(source, path)


class VideoFromComponents(VideoInput):
    """Images in a row."""

    def __init__(self, components: VideoComponents):
        self._components = components

    def get_components(self) -> VideoComponents:
        return self._components

    def get_dimensions(self):
        """(width, height)"""
        return self._components.images.shape[2], self._components.images.shape[1]

    def get_duration(self):
        """Seconds."""
        return float(self._components.images.shape[0] / self._components.frame_rate)

    def save_to(self, path, format="auto", codec="auto", metadata=None):
        raise _no_codec("images cannot be written as a video")


def _no_codec(message):
    return GraphFlowError(
        [
            Problem(
                "no_video_codec",
                f"{message} by this class: it has no video codec",
                hint="CreateVideo, SaveVideo, LoadVideo and GetVideoComponents can, where PyAV is installed",
            )
        ]
    )
