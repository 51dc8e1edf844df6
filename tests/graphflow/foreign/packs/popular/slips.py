"""Slips that ComfyUI's own program lets pass, and imports of nodes that the library lacks."""

from nodes import *  # noqa: F403
from nodes import CheckpointLoader, common_ksampler

assert callable(common_ksampler) and callable(VAEDecode) and callable(SaveImage)  # noqa: F405


class TooFew:
    """Gives one of two outputs."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {}}

    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("first", "second")
    FUNCTION = "go"

    def go(self):
        return ("one",)


class TooMany:
    """Declares no output and gives two."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"text": ("STRING", {"default": "shown"})}}

    RETURN_TYPES = ()
    FUNCTION = "go"
    OUTPUT_NODE = True

    def go(self, text):
        return {"ui": {"text": [text]}, "result": (text, text)}


class UsesLora:
    """Calls a node that is not there."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "go"

    def go(self, model):
        return CheckpointLoader().load_checkpoint("x")


CLASSES = (TooFew, TooMany, UsesLora)
