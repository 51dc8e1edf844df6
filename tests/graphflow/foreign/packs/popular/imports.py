"""Imports, and what is done with them when a pack is loaded, as in popular packs."""

from fractions import Fraction

import comfy.sample
import node_helpers
import torch
from aiohttp import web
from comfy.comfy_types import IO as SAME
from comfy.comfy_types.node_typing import IO, ComfyNodeABC, InputTypeDict
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy_api.input import VideoInput
from comfy_api.input_impl import VideoFromComponents, VideoFromFile
from comfy_api.latest import InputImpl, Types
from comfy_api.util import VideoComponents

from server import PromptServer

routes = PromptServer.instance.routes


@routes.get("/popular/hello")
async def hello(request):
    return web.json_response({})


@web.middleware
async def nothing(request, handler):
    return await handler(request)


routes.static("/popular/static", ".")
PromptServer.instance.app.add_routes([web.static("/popular", "."), web.get("/popular/more", hello)])
PromptServer.instance.app.add_routes(routes)
PromptServer.instance.app.router.add_get("/popular/other", hello)
PromptServer.instance.app.middlewares.append(nothing)
assert SAME is IO and InputImpl.VideoFromFile is VideoFromFile and Types.VideoComponents is VideoComponents
assert PromptServer.instance.prompt_queue.get_tasks_remaining() == 0


class Video(ComfyNodeABC):
    @classmethod
    def INPUT_TYPES(cls) -> InputTypeDict:
        return {"required": {"images": (IO.IMAGE, {}), "path": (IO.STRING, {})}}

    RETURN_TYPES = (IO.VIDEO, IO.VIDEO)
    RETURN_NAMES = ("made", "file")
    FUNCTION = "go"

    def go(self, images, path):
        made = VideoFromComponents(VideoComponents(images=images, frame_rate=Fraction(4)))
        return (made, VideoFromFile(path))


class VideoSize(ComfyNodeABC):
    @classmethod
    def INPUT_TYPES(cls) -> InputTypeDict:
        return {"required": {"video": (IO.VIDEO, {})}}

    RETURN_TYPES = (IO.STRING,)
    FUNCTION = "go"

    def go(self, video: VideoInput):
        return (f"{video.get_dimensions()} {video.get_duration()} s",)


class Queue(ComfyNodeABC):
    """Whether the prompt of the run is in the queue that packs look into."""

    @classmethod
    def INPUT_TYPES(cls) -> InputTypeDict:
        return {"required": {}}

    RETURN_TYPES = (IO.BOOLEAN,)
    FUNCTION = "go"

    def go(self):
        ((_, _, prompt, extra, _),) = PromptServer.instance.prompt_queue.currently_running.values()
        return ("last" in prompt and "extra_pnginfo" in extra,)


class Helpers(ComfyNodeABC):
    """What models are, noise, and options of a conditioning."""

    @classmethod
    def INPUT_TYPES(cls) -> InputTypeDict:
        return {"required": {name: (name.upper(), {}) for name in ("model", "clip", "vae", "latent", "conditioning")}}

    RETURN_TYPES = (IO.LATENT, IO.CONDITIONING)
    FUNCTION = "go"

    def go(self, model: ModelPatcher, clip: CLIP, vae: VAE, latent, conditioning):
        assert isinstance(model, ModelPatcher) and isinstance(clip, CLIP) and isinstance(vae, VAE)
        noise = comfy.sample.prepare_noise(latent["samples"], 5)
        assert torch.equal(comfy.sample.prepare_noise(latent["samples"][:1], 5, [1]), noise[1:])
        led = node_helpers.conditioning_set_values(conditioning, {"guidance": 3.5, "references": ["a"]})
        more = node_helpers.conditioning_set_values(led, {"references": ["b"]}, append=True)
        assert "guidance" not in conditioning[0][1] and led[0][1]["references"] == ["a"]
        return ({"samples": noise}, more)


CLASSES = (Video, VideoSize, Queue, Helpers)
