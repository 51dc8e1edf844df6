"""Names for annotations."""

from abc import ABC, abstractmethod
from typing import Any, TypedDict

__all__ = ["AudioInput", "ImageInput", "LatentInput", "MaskInput", "VideoInput"]

ImageInput = Any
MaskInput = Any
LatentInput = dict


class AudioInput(TypedDict):
    waveform: Any
    sample_rate: int


class VideoInput(ABC):
    """A value of type VIDEO."""

    @abstractmethod
    def get_components(self):
        """Its images, sound and frame rate."""

    @abstractmethod
    def save_to(self, path, format="auto", codec="auto", metadata=None):
        """Write it into a file."""
