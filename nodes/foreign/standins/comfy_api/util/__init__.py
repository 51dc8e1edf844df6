"""What a video is made of."""

from enum import StrEnum

from graphflow_nodes.foreign.video_face import VideoComponents

__all__ = ["VideoCodec", "VideoComponents", "VideoContainer"]


class VideoContainer(StrEnum):
    AUTO = "auto"
    MP4 = "mp4"
    MKV = "mkv"
    WEBM = "webm"


class VideoCodec(StrEnum):
    AUTO = "auto"
    H264 = "h264"
    AV1 = "av1"
    VP9 = "vp9"
