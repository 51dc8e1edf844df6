"""A server of one test module: a real one on a port of this machine, in a thread of its own, with cheap nodes."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from graphflow_server.options import Options, RequestLimits
from graphflow_server.queue import QueueSettings, WorkerConfig
from graphflow_server.serve import listening

DATA = Path(__file__).parents[1] / "data"
NODES = (DATA / "queue_nodes", DATA / "server_nodes")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problems(self) -> list[str]:
        return [problem["code"] for problem in self.json["problems"]]


@dataclass
class Server:
    """Speaks to a running server as plain programs do: no Origin, no content type, unless a test says so."""

    port: int
    root: Path
    options: Options
    _headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | list[tuple[str, str]] = (),
        host: str = "",
    ) -> Answer:
        """One request on a connection of its own; headers may come twice, and the Host may be any."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=150)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            given = list(headers.items() if isinstance(headers, dict) else headers)
            if not any(name.lower() == "host" for name, _ in given):
                connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            for name, value in [*self._headers.items(), *given]:
                connection.putheader(name, value)
            if content is not None:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def run(self, graph: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Queue a workflow and wait for its end."""
        answer = self.post("/prompt?wait=120", {"prompt": graph, **more})
        assert answer.status == 200, answer.body
        return answer.json


@contextmanager
def served(root: Path, **changes: Any) -> Iterator[Server]:
    """A server with its folders below `root`; changes of options, of `limits`, of the `queue`, or `paused`."""
    limits = replace(RequestLimits(), **changes.pop("limits", {}))
    paused = changes.pop("paused", False)
    queue = changes.pop("queue", {})
    options = Options(port=0, user_dir=root / "state" / "user", limits=limits, **changes)
    worker = WorkerConfig(
        output_dir=root / "output",
        input_dir=root / "input",
        temp_dir=root / "output" / "temp",
        models=(root / "models",),
        nodes=NODES,
        cache_dir=root / "cache",
    )
    settings = QueueSettings(root / "state", worker, start_paused=paused, **queue)
    ready, port = threading.Event(), 0
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    failure: list[BaseException] = []

    async def live() -> None:
        nonlocal port
        async with listening(options, settings) as port:
            ready.set()
            await ending.wait()

    def work() -> None:
        try:
            loop.run_until_complete(live())
        except BaseException as error:
            failure.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=work, name="server under test")
    thread.start()
    ready.wait(60)
    if failure:
        raise failure[0]
    try:
        yield Server(port, root, options)
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """Starts a server of the test's own: `with serve(token="...") as server`."""
    return lambda **changes: served(tmp_path, **changes)


@pytest.fixture
def graph() -> Callable[..., dict[str, Any]]:
    """A number that is shown: `graph(value=3)`; each text makes another workflow."""

    def make(value: Any = 1, **inputs: Any) -> dict[str, Any]:
        return {
            "1": {"class_type": "Number", "inputs": {"value": value, **inputs}},
            "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
        }

    return make
