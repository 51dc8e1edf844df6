"""`PromptServer.instance`: messages to whoever listens. Routes that packs add are not served: the server has its
own."""

import logging
import struct

from comfy.utils import show_preview

from graphflow.spi import current

_log = logging.getLogger("graphflow.foreign")


class BinaryEventTypes:
    """What ComfyUI's binary messages are called."""

    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4


class _Routes:
    """Takes what a pack declares and serves none of it."""

    def _ignore(self, path, *_, **__):
        _log.info("a node pack declares the route %s, which is not served", path)
        return lambda handler: handler

    get = post = put = patch = delete = head = view = route = static = _ignore


class _Router:
    """The same of the web application."""

    def _ignore(self, path, *_, **__):
        _log.info("a node pack declares the route %s, which is not served", path)

    add_get = add_post = add_put = add_patch = add_delete = add_head = add_view = add_static = _ignore

    def add_route(self, method, path, *_, **__):
        self._ignore(path)

    def add_routes(self, routes):
        for route in routes if not isinstance(routes, _Routes) else ():
            self._ignore(getattr(route, "path", None) or getattr(route, "prefix", route))


class _App(dict):
    """What packs take for the web application; nothing of theirs is served."""

    def __init__(self):
        super().__init__()
        self.router, self.middlewares = _Router(), []
        self.on_startup, self.on_shutdown, self.on_cleanup, self.on_response_prepare = [], [], [], []

    def add_routes(self, routes):
        self.router.add_routes(routes)

    def add_subapp(self, prefix, _):
        _log.info("a node pack declares an application at %s, which is not served", prefix)


class _PromptQueue:
    """As much of the queue as a node sees: the run that it is part of."""

    @property
    def currently_running(self):
        """{number: (number, id of the prompt, prompt, extra data, nodes to execute)}; packs do not get ids."""
        call = current()
        if call is None:
            return {}
        extra = {"extra_pnginfo": dict(call.context.extra_pnginfo)}
        return {0: (0, "", call.context.workflow_json(), extra, [])}

    def get_current_queue(self):
        """(running, waiting)"""
        return list(self.currently_running.values()), []

    def get_tasks_remaining(self):
        return len(self.currently_running)

    def set_flag(self, name, data):
        _log.info("a node pack asks for %s, which is for the server to decide", name)


class PromptServer:
    instance = None

    def __init__(self):
        self.routes = _Routes()
        self.client_id = None
        self.last_node_id = None
        self.last_prompt_id = None
        self.sockets = {}
        self.supports = ["custom_nodes_from_web"]
        self.app = _App()
        self.prompt_queue = _PromptQueue()
        self.loop = None

    def send_sync(self, event, data, sid=None):
        """Reaches the clients that watch the run; outside of a run, nobody."""
        call = current()
        if call is None:
            return
        if isinstance(event, str):
            call.context.send(event, data)
        elif event == BinaryEventTypes.UNENCODED_PREVIEW_IMAGE:
            show_preview(call.context, data)
        elif event == BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA:
            show_preview(call.context, data[0])
        elif event == BinaryEventTypes.PREVIEW_IMAGE:
            kind = "image/png" if data[:4] == struct.pack(">I", 2) else "image/jpeg"
            call.context.show(lambda: bytes(data[4:]), kind, is_result=False)
        elif event == BinaryEventTypes.TEXT:
            end = 4 + struct.unpack(">I", data[:4])[0]
            call.context.say(data[end:].decode("utf-8", "replace"), data[4:end].decode("utf-8", "replace"))

    def send_progress_text(self, text, node_id, sid=None):
        call = current()
        if call is not None:
            call.context.say(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text), str(node_id))

    def add_on_prompt_handler(self, handler):
        _log.info("a node pack wants to change prompts before they run: it may not")


PromptServer.instance = PromptServer()
