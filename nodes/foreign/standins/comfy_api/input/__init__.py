"""Names for annotations."""

from typing import Any, TypedDict

ImageInput = Any
MaskInput = Any
LatentInput = dict
VideoInput = Any


class AudioInput(TypedDict):
    waveform: Any
    sample_rate: int
