"""A foreign pack with a script for the editor and a node that tells something of its own."""

import struct

from server import BinaryEventTypes, PromptServer

WEB_DIRECTORY = "js"


class Talk:
    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"text": ("STRING", {"default": "hello"})}}

    RETURN_TYPES = ()
    FUNCTION = "go"
    OUTPUT_NODE = True
    CATEGORY = "test"

    def go(self, text):
        PromptServer.instance.send_sync("talking.said", {"text": text})
        PromptServer.instance.send_sync("execution_success", {"prompt_id": "not yours to say"})
        return {"ui": {"text": [text]}}


class Pictures:
    """Gives pictures as ComfyUI's packs do: over the progress bar, or as a binary message; and says a text."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {"how": (["bar", "event"],), "count": ("INT", {"default": 3}), "side": ("INT", {"default": 8})}
        }

    RETURN_TYPES = ()
    FUNCTION = "go"
    OUTPUT_NODE = True
    CATEGORY = "test"

    @classmethod
    def IS_CHANGED(s, **_):
        return float("nan")

    def go(self, how, count, side):
        from comfy.utils import ProgressBar
        from PIL import Image

        bar = ProgressBar(count)
        for index in range(count):
            preview = "PNG", Image.effect_noise((side, side), 100).convert("RGB"), None
            if how == "bar":
                bar.update_absolute(index, count, preview)
            else:
                PromptServer.instance.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, preview)
        PromptServer.instance.send_progress_text("almost", "1")
        PromptServer.instance.send_sync(BinaryEventTypes.TEXT, struct.pack(">I", 1) + b"1hello \xc3\xa9")
        return {}


NODE_CLASS_MAPPINGS = {"Talk": Talk, "Pictures": Pictures}
