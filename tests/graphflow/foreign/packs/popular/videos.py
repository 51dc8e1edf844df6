"""Nodes that take videos apart, shorten them and write them, as packs for videos do."""

import io
import json

import folder_paths
from comfy_api.input import VideoInput
from comfy_api.input_impl import VideoFromComponents, VideoFromFile
from comfy_api.util import VideoComponents


def _video(**more):
    return {"required": {"video": ("VIDEO",), **more}}


class VideoAbout:
    """What a video says about itself."""

    INPUT_TYPES = classmethod(lambda cls: _video())
    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"

    def go(self, video):
        parts = video.get_components()
        found = {
            "is_video": isinstance(video, VideoInput),
            "kind": type(video).__name__,
            "size": video.get_dimensions(),
            "frames": video.get_frame_count(),
            "rate": str(video.get_frame_rate()),
            "seconds": video.get_duration(),
            "format": video.get_container_format().split(",")[0],
            "shape": list(parts.images.shape),
            "sound": None if parts.audio is None else parts.audio["sample_rate"],
            "source": type(video.get_stream_source()).__name__,
        }
        return (json.dumps(found),)


class VideoShorter:
    """The middle of a video, made in three ways."""

    INPUT_TYPES = classmethod(lambda cls: _video(how=(["trimmed", "components", "bytes"],)))
    RETURN_TYPES = ("VIDEO",)
    FUNCTION = "go"

    def go(self, video, how):
        if how == "trimmed":
            return (video.as_trimmed(start_time=0.25, duration=0.5),)
        parts = video.get_components()
        made = VideoFromComponents(VideoComponents(parts.images[2:6], parts.frame_rate, parts.audio))
        if how == "components":
            return (made,)
        stream = io.BytesIO()
        made.save_to(stream, format="mkv", codec="h264")
        return (VideoFromFile(stream),)


class VideoWrite:
    """A file in the output folder; the video goes on as it is."""

    INPUT_TYPES = classmethod(lambda cls: _video(name=("STRING", {"default": "a.webm"})))
    RETURN_TYPES = ("VIDEO",)
    FUNCTION = "go"
    OUTPUT_NODE = True

    def go(self, video, name):
        video.save_to(f"{folder_paths.get_output_directory()}/{name}", metadata={"prompt": {"a": 1}, "title": "fox"})
        return (video,)


CLASSES = (VideoAbout, VideoShorter, VideoWrite)
