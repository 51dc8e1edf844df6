"""The newer way to declare nodes: `io.ComfyNode` with `define_schema` and `execute`, exported by a ComfyExtension."""

from abc import ABC, abstractmethod

from comfy_api.input import AudioInput, VideoInput
from comfy_api.input_impl import VideoFromComponents, VideoFromFile
from comfy_api.util import VideoCodec, VideoComponents, VideoContainer
from graphflow.spi import current

from . import io, ui

__all__ = ["IO", "UI", "ComfyAPI", "ComfyAPISync", "ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]

IO, UI = io, ui


class ComfyExtension(ABC):
    """What `comfy_entrypoint` of a pack gives."""

    async def on_load(self) -> None:  # noqa: B027 (packs may leave it out)
        """Called once, before the nodes are asked for."""

    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The node classes."""


class _Execution:
    async def set_progress(self, value, max_value, node_id=None, preview_image=None, ignore_size_limit=False):
        """Tell how far the running node is; raises if the run is to stop."""
        _set_progress(value, max_value, preview_image)


class _ExecutionSync:
    def set_progress(self, value, max_value, node_id=None, preview_image=None, ignore_size_limit=False):
        _set_progress(value, max_value, preview_image)


def _set_progress(value, total, preview):
    from comfy.utils import ProgressBar

    if current() is not None:
        if preview is not None and hasattr(preview, "movedim"):
            preview = ui.to_pillow(preview)
        ProgressBar(total).update_absolute(value, total, ("JPEG", preview, 512) if preview is not None else None)


class ComfyAPI:
    """What nodes may ask of the program."""

    VERSION = "latest"
    STABLE = False

    def __init__(self):
        self.execution = _Execution()


class ComfyAPISync:
    VERSION = "latest"
    STABLE = False

    def __init__(self):
        self.execution = _ExecutionSync()


class Input:
    """Names for annotations."""

    Image = io.Image.Type
    Mask = io.Mask.Type
    Latent = io.Latent.Type
    Audio = AudioInput
    Video = VideoInput


class InputImpl(Input):
    """Values of images and latents are plain tensors and dicts here."""

    VideoFromFile = VideoFromFile
    VideoFromComponents = VideoFromComponents


class Types:
    """What videos are made of."""

    VideoCodec = VideoCodec
    VideoComponents = VideoComponents
    VideoContainer = VideoContainer
