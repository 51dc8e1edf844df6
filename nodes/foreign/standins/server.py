"""`PromptServer.instance`: messages to whoever listens. Routes that packs add are not served: the server has its own."""

import logging

from graphflow.foreign import current


class _Routes:
    """Takes what a pack declares and serves none of it."""

    def _ignore(self, path, **_):
        logging.getLogger("graphflow.foreign").info("a node pack declares the route %s, which is not served", path)
        return lambda handler: handler

    get = post = put = patch = delete = head = view = _ignore

    def static(self, prefix, path, **_):
        self._ignore(prefix)


class PromptServer:
    instance = None

    def __init__(self):
        self.routes = _Routes()
        self.client_id = None
        self.last_node_id = None
        self.last_prompt_id = None
        self.sockets = {}
        self.supports = ["custom_nodes_from_web"]
        self.app = None
        self.loop = None

    def send_sync(self, event, data, sid=None):
        """Reaches the clients that watch the run; outside of a run, nobody."""
        call = current()
        if call is not None and isinstance(event, str):
            call.context.send(event, data)

    def send_progress_text(self, text, node_id, sid=None):
        self.send_sync("progress_text", {"node": node_id, "text": text})

    def add_on_prompt_handler(self, handler):
        logging.getLogger("graphflow.foreign").info("a node pack wants to change prompts before they run: it may not")


PromptServer.instance = PromptServer()
