"""Node classes."""

import asyncio
import math
import os

import comfy.model_management
import comfy.samplers
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from comfy.comfy_types import IO, CheckLazyMixin, ComfyNodeABC, InputTypeDict
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder, is_link

import nodes as core
from server import PromptServer


class AnyType(str):
    """Unequal to nothing."""

    def __ne__(self, other):
        return False


any_type = AnyType("*")


class Flexible(dict):
    """Optional inputs of any name."""

    def __contains__(self, key):
        return True


class Brighten:
    """Multiplies a picture."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "image": ("IMAGE",),
                "factor": ("FLOAT", {"default": 1.5, "min": 0.0, "max": 4.0, "step": 0.1, "tooltip": "how much"}),
                "mode": (["clamp", "wrap"],),
            }
        }

    RETURN_TYPES = ("IMAGE", "INT")
    RETURN_NAMES = ("picture", "width")
    FUNCTION = "go"
    CATEGORY = "old"
    DESCRIPTION = "Multiplies a picture."

    def go(self, image, factor, mode):
        bar = comfy.utils.ProgressBar(2)
        image *= factor  # into its input: nobody else may see it
        bar.update(1)
        image = image.clamp(0, 1) if mode == "clamp" else image % 1
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return (image, image.shape[2])


class Text(ComfyNodeABC):
    """A text."""

    @classmethod
    def INPUT_TYPES(cls) -> InputTypeDict:
        return {"required": {"text": (IO.STRING, {"multiline": True, "default": "hello"})}}

    RETURN_TYPES = (IO.STRING,)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, text):
        return (text,)


class Show:
    """Shows anything."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {"value": (any_type, {})},
            "hidden": {"id": "UNIQUE_ID", "prompt": "PROMPT", "info": "EXTRA_PNGINFO"},
        }

    RETURN_TYPES = ()
    FUNCTION = "go"
    OUTPUT_NODE = True
    CATEGORY = "old"

    def go(self, value, id, prompt, info):
        PromptServer.instance.send_sync("old.shown", {"node": id})
        return {
            "ui": {
                "text": [str(value)],
                "id": [id],
                "known": [id in prompt],
                "info": [sorted(info or ())],
                "bare": [args.disable_metadata],
            }
        }


class Count:
    """How often this very node has run."""

    def __init__(self):
        self.times = 0

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"start": ("INT", {"default": 0})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"
    CATEGORY = "old"

    @classmethod
    def IS_CHANGED(s, start):
        return math.nan

    def go(self, start):
        self.times += 1
        return (start + self.times,)


class ReadFile:
    """Reads a text file of the input folder."""

    @classmethod
    def INPUT_TYPES(s):
        folder = folder_paths.get_input_directory()
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return {"required": {"name": (names,)}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"
    CATEGORY = "old"

    @classmethod
    def IS_CHANGED(s, name):
        with open(folder_paths.get_annotated_filepath(name)) as file:
            return file.read()

    @classmethod
    def VALIDATE_INPUTS(s, name):
        return True if folder_paths.exists_annotated_filepath(name) else f"there is no file {name}"

    def go(self, name):
        with open(folder_paths.get_annotated_filepath(name)) as file:
            return (file.read(),)


class Choose(CheckLazyMixin):
    """One of two, without computing the other."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {"which": ("BOOLEAN", {"default": True})},
            "optional": {"yes": (any_type, {"lazy": True}), "no": (any_type, {"lazy": True})},
        }

    RETURN_TYPES = (any_type,)
    FUNCTION = "go"
    CATEGORY = "old"

    def check_lazy_status(self, which, yes=None, no=None):
        if which and yes is None:
            return ["yes"]
        if not which and no is None:
            return ["no"]
        return []

    def go(self, which, yes=None, no=None):
        return (yes if which else no,)


class Fails:
    """Never works."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self):
        raise RuntimeError("it never works")


class Gate:
    """Blocks."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "value": (any_type,),
                "open": ("BOOLEAN", {"default": False}),
                "say": ("STRING", {"default": ""}),
            }
        }

    RETURN_TYPES = (any_type,)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, value, open, say):
        return (value if open else ExecutionBlocker(say or None),)


class Split:
    """A text as a list of words."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"text": ("STRING", {"forceInput": True})}}

    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, text):
        return (text.split(),)


class Gather:
    """All words, with a separator."""

    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"words": ("STRING", {"forceInput": True}), "separator": ("STRING", {"default": "-"})}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, words, separator):
        return (separator[0].join(words),)


class Repeat:
    """Repeats a text by expanding into itself."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {"text": ("STRING", {"default": ""}), "times": ("INT", {"default": 1, "min": 0, "max": 10000})},
            "optional": {"so_far": ("STRING", {"default": ""})},
            "hidden": {"graph": "DYNPROMPT", "me": "UNIQUE_ID"},
        }

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, text, times, so_far="", graph=None, me=None):
        assert graph.get_node(me)["class_type"] == "Old Repeat"
        if times == 0:
            return (so_far,)
        builder = GraphBuilder()
        joined = builder.node("Old Join", a=so_far, b=text)
        again = builder.node("Old Repeat", text=text, times=times - 1, so_far=joined.out(0))
        assert is_link(again.out(0))
        return {"result": (again.out(0),), "expand": builder.finalize()}


class Join:
    """a + b, and whatever else there is."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {"a": ("STRING", {"default": ""}), "b": ("STRING", {"default": ""})},
            "optional": Flexible(),
        }

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, a, b, **more):
        return (a + b + "".join(str(more[key]) for key in sorted(more)),)


class Wait:
    """Waits without holding others up."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"seconds": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 10.0})}}

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "go"
    CATEGORY = "old"

    async def go(self, seconds):
        await asyncio.sleep(seconds)
        return (seconds,)


class Save(core.SaveImage):
    """Saves with the library's own node."""

    CATEGORY = "old"


class Scale:
    """Resamples with the shared helper."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {"image": ("IMAGE",), "width": ("INT", {"default": 8, "min": 1, "max": core.MAX_RESOLUTION})}
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, image, width):
        device = comfy.model_management.get_torch_device()
        image = image.to(device).movedim(-1, 1)
        return (comfy.utils.common_upscale(image, width, width, "bilinear", "disabled").movedim(1, -1),)


class Sampler:
    """The names of the samplers."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "sampler": (comfy.samplers.KSampler.SAMPLERS,),
                "scheduler": (comfy.samplers.KSampler.SCHEDULERS,),
            }
        }

    RETURN_TYPES = (comfy.samplers.KSampler.SAMPLERS,)
    FUNCTION = "go"
    CATEGORY = "old"

    def go(self, sampler, scheduler):
        return (sampler,)


class Broken:
    """Cannot say what it takes."""

    RETURN_TYPES = ()
    FUNCTION = "go"

    @classmethod
    def INPUT_TYPES(s):
        raise RuntimeError("no idea")


assert torch.is_tensor(torch.zeros(1))

NODE_CLASS_MAPPINGS = {
    "Old " + kind.__name__: kind
    for kind in (
        Brighten,
        Text,
        Show,
        Count,
        ReadFile,
        Choose,
        Fails,
        Gate,
        Split,
        Gather,
        Repeat,
        Join,
        Wait,
        Save,
        Scale,
        Sampler,
        Broken,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {"Old Brighten": "Brighten (old)"}
