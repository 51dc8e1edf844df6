"""Names for annotations."""

from typing import Any, TypedDict

from graphflow_nodes.foreign.video_face import VideoInput

__all__ = ["AudioInput", "ImageInput", "LatentInput", "MaskInput", "VideoInput"]

ImageInput = Any
MaskInput = Any
LatentInput = dict


class AudioInput(TypedDict):
    waveform: Any
    sample_rate: int
