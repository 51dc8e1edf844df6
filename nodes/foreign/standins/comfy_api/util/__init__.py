"""What a video is made of."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

__all__ = ["VideoCodec", "VideoComponents", "VideoContainer"]


class VideoContainer(StrEnum):
    AUTO = "auto"
    MP4 = "mp4"


class VideoCodec(StrEnum):
    AUTO = "auto"
    H264 = "h264"


@dataclass
class VideoComponents:
    """Images [B,H,W,C], how many of them a second shows, and what is heard."""

    images: Any
    frame_rate: Fraction
    audio: Any = None
    metadata: dict | None = None
