"""A foreign pack with a script for the editor and a node that tells something of its own."""

from server import PromptServer

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


NODE_CLASS_MAPPINGS = {"Talk": Talk}
