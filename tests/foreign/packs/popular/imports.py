"""Imports, and what is done with them when a pack is loaded, as in popular packs."""

from fractions import Fraction

from aiohttp import web
from comfy.comfy_types import IO as SAME
from comfy.comfy_types.node_typing import IO, ComfyNodeABC, InputTypeDict
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


CLASSES = (Video, VideoSize, Queue)
