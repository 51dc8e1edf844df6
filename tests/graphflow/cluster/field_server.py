"""A server of ComfyUI's protocol as it is described, small and scripted: no log, and a connection that can break."""

import asyncio
import json
import struct
import threading
import uuid
from collections.abc import Callable

from aiohttp import web

PICTURE = b"\x89PNG\r\n\x1a\n" + b"picture"
PREVIEW = b"\xff\xd8\xff\xe0preview"


class FieldServer:
    """Runs in a thread of its own. Every node but the last "runs"; the last shows a picture."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.interrupted: list[str] = []
        self.uploads: list[tuple[str, bytes]] = []
        self.history: dict[str, dict] = {}
        self.waiting: dict[str, dict] = {}
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.own_ids = False
        self.answer: Callable[[dict], web.Response] | None = None
        self.run = self.success
        self.filename = "a.png"
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self):
        self._thread.start()
        self._ready.wait(60)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.add_routes(
            [
                web.get("/ws", self.ws),
                web.post("/prompt", self.prompt),
                web.get("/queue", self.queue),
                web.post("/queue", self.nothing),
                web.post("/interrupt", self.interrupt),
                web.get("/history/{id}", self.past),
                web.get("/view", self.view),
                web.post("/upload/image", self.upload),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self.url = "http://127.0.0.1:{}".format(*site._server.sockets[0].getsockname()[1:2])
        self._ready.set()
        await self._stop.wait()
        for socket in list(self.sockets.values()):
            await socket.close()
        await runner.cleanup()

    async def ws(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[request.query["clientId"]] = socket
        await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}}})
        async for _ in socket:
            pass
        return socket

    async def prompt(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.answer is not None:
            return self.answer(body)
        prompt_id = body.get("prompt_id") if not self.own_ids and body.get("prompt_id") else str(uuid.uuid4())
        self.waiting[prompt_id] = body["prompt"]
        task = asyncio.create_task(self.run(prompt_id, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.json_response({"prompt_id": prompt_id, "number": 0, "node_errors": {}})

    async def tell(self, body, kind, data):
        socket = self.sockets.get(body["client_id"])
        if socket is not None and not socket.closed:
            await socket.send_json({"type": kind, "data": data})

    async def success(self, prompt_id, body, broken=False):
        this = {"prompt_id": prompt_id}
        await self.tell(body, "execution_start", {**this, "timestamp": 1})
        await self.tell(body, "execution_cached", {"nodes": [], **this, "timestamp": 2})
        await self.tell(
            {"client_id": body["client_id"]}, "executing", {"node": "another", "prompt_id": "of somebody else"}
        )
        *before, last = body["prompt"]
        for node in before:
            await self.tell(body, "executing", {"node": node, "display_node": node, **this})
            await self.tell(body, "progress", {"value": 1, "max": 2, "node": node, **this})
            socket = self.sockets.get(body["client_id"])
            if socket is not None and not socket.closed:
                await socket.send_bytes(struct.pack(">II", 1, 1) + PREVIEW)
                about = json.dumps({"node_id": node, "prompt_id": prompt_id}).encode()
                await socket.send_bytes(struct.pack(">II", 4, len(about)) + about + PREVIEW)
            if broken:
                self.sockets.pop(body["client_id"])
                await socket.close()
                break
        output = {"images": [{"filename": self.filename, "subfolder": "", "type": "output"}]}
        await self.tell(body, "executing", {"node": last, "display_node": last, **this})
        await self.tell(body, "executed", {"node": last, "display_node": last, "output": output, **this})
        await self.tell(body, "execution_success", {**this, "timestamp": 3})
        self._done(
            prompt_id,
            body,
            {last: output},
            "success",
            [["execution_start", this], ["execution_cached", {"nodes": []}], ["execution_success", this]],
        )
        await self.tell(body, "executing", {"node": None, **this})

    async def breaks(self, prompt_id, body):
        await self.success(prompt_id, body, broken=True)

    async def fails(self, prompt_id, body):
        first = next(iter(body["prompt"]))
        error = {
            "prompt_id": prompt_id,
            "node_id": first,
            "node_type": "X",
            "executed": [],
            "exception_message": "boom\n",
            "exception_type": "ValueError",
            "traceback": [],
            "current_inputs": {},
            "current_outputs": [],
        }
        await self.tell(body, "execution_start", {"prompt_id": prompt_id})
        await self.tell(body, "execution_cached", {"prompt_id": prompt_id, "nodes": []})
        await self.tell(body, "executing", {"node": first, "display_node": first, "prompt_id": prompt_id})
        await self.tell(body, "execution_error", error)
        self._done(prompt_id, body, {}, "error", [["execution_error", error]])
        await self.tell(body, "executing", {"node": None, "prompt_id": prompt_id})

    async def loses(self, prompt_id, body):
        del self.waiting[prompt_id]

    async def waits(self, prompt_id, body):
        first = next(iter(body["prompt"]))
        await self.tell(body, "executing", {"node": first, "display_node": first, "prompt_id": prompt_id})
        while prompt_id not in self.interrupted:
            await asyncio.sleep(0.01)
        stopped = {"prompt_id": prompt_id, "node_id": first, "node_type": "X", "executed": []}
        await self.tell(body, "execution_interrupted", stopped)
        self._done(prompt_id, body, {}, "error", [["execution_interrupted", stopped]])
        await self.tell(body, "executing", {"node": None, "prompt_id": prompt_id})

    def _done(self, prompt_id, body, outputs, status, messages):
        self.waiting.pop(prompt_id, None)
        self.history[prompt_id] = {
            "prompt": [0, prompt_id, body["prompt"], {}, []],
            "outputs": outputs,
            "status": {"status_str": status, "completed": status == "success", "messages": messages},
        }

    async def queue(self, request):
        items = [[0, key, prompt, {}, []] for key, prompt in self.waiting.items()]
        return web.json_response({"queue_running": items[:1], "queue_pending": items[1:]})

    async def nothing(self, request):
        return web.Response()

    async def interrupt(self, request):
        self.interrupted.append((await request.json())["prompt_id"])
        return web.Response()

    async def past(self, request):
        key = request.match_info["id"]
        return web.json_response({key: self.history[key]} if key in self.history else {})

    async def view(self, request):
        if request.query["filename"] not in (self.filename, "a.png"):
            return web.Response(status=404)
        return web.Response(body=PICTURE, content_type="image/png")

    async def upload(self, request):
        async for part in await request.multipart():
            if part.name == "image":
                self.uploads.append((part.filename, await part.read()))
        return web.json_response({"name": self.uploads[-1][0], "subfolder": "sub", "type": "input"})
