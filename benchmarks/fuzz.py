"""Tens of thousands of hostile requests at a real server: none may be answered with a 5xx, hang, or leave a trace.

    python -m benchmarks.fuzz --requests 20000

Three kinds, a third of the requests each: what schemathesis makes of /openapi.json (valid and invalid), workflows and
forms with one to three things broken in them, and raw bytes at odd paths with odd heads. Besides, websockets that say
nonsense. After it the server must still run a prompt, have no more open files, and nothing may lie outside of its
folders.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import gzip
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

NODES = Path(__file__).parents[1] / "tests" / "data" / "server_nodes"
GRAPH = {
    "1": {"class_type": "Number", "inputs": {"value": 1, "mode": "plain"}},
    "2": {"class_type": "Canvas", "inputs": {"width": ["1", 0], "height": 8}},
    "3": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
}
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**64,
    10**39,
    -0.0,
    1e308,
    1.5,
    "",
    "x" * 3000,
    "\0",
    "\ud800",
    "../../etc/passwd",
    "NUL",
    [],
    {},
    [[]],
    ["1", 0],
    ["1", 10**20],
    ["1", -1],
    ["1", 0.5],
    ["1", "0"],
    [1, 0],
    ["nope", 0],
    {"__value__": ["1", 0]},
    {"__value__": 3},
    {"class_type": "Show"},
    [["1", 0], ["1", 0]],
    "Number",
    "Nope",
    "PrimitiveNode",
    {"1": GRAPH},
    "%year%/%width%",
    "<script>",
]
PATHS = [
    "prompt",
    "validate",
    "queue",
    "history",
    "interrupt",
    "free",
    "jobs/cancel",
    "settings",
    "settings/x",
    "login",
    "userdata/a.json",
    "upload/image",
    "upload/mask",
    "api/prompt",
    "internal/logs/subscribe",
    "users",
]
GETS = [
    "view?filename=",
    "view?type=input&filename=",
    "view?preview=",
    "userdata/",
    "userdata?dir=",
    "v2/userdata?path=",
    "models/",
    "object_info/",
    "view_metadata/checkpoints?filename=",
    "history/",
    "prompts/",
    "jobs?status=",
    "experiment/models/preview/",
    "docs/",
    "internal/files/",
    "",
    "api/",
    "assets/",
    "settings/",
    "prompts/x/events?since=",
    "history?max_items=",
]

HEADS = [
    "Origin",
    "Sec-Fetch-Site",
    "Content-Type",
    "Cookie",
    "Range",
    "If-None-Match",
    "Accept",
    "Authorization",
    "Expect",
    "Upgrade",
    "Content-Encoding",
    "Transfer-Encoding",
    "Last-Event-ID",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "place"
        place.mkdir()
        options_of_it = ["--port", "0", "--nodes", str(NODES), "--cache-dir", "cache"]
        command = [sys.executable, "-m", "graphflow.cli", "serve", *options_of_it]
        with open(place / "log", "w") as log:
            server = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            port = int(re.search(r":(\d+)", server.stdout.readline())[1])  # type: ignore[index]
            Fuzz(port, server.pid, options.requests, options.seed).run(place)
        finally:
            server.terminate()
            print(f"exit code of the server after SIGTERM: {server.wait(30)}")
            print(
                f"beside the server's folder: "
                f"{[item.name for item in Path(folder).iterdir() if item != place] or 'nothing'}"
            )
            incidents = (place / "log").read_text().count('"incident"')
            print(f"incidents in the log: {incidents}")


class Fuzz:
    def __init__(self, port: int, pid: int, requests: int, number: int) -> None:
        self.port, self.pid, self.requests, self.number = port, pid, requests, number
        self.random = random.Random(number)
        self.statuses: Counter[str] = Counter()
        self.slowest = 0.0
        self.bad: list[str] = []

    def run(self, place: Path) -> None:
        self.ask("POST", "/prompt?wait=20", json.dumps({"prompt": GRAPH}).encode())
        before, began = self.state(), time.perf_counter()
        third = self.requests // 3
        kinds = {
            "described": lambda: self.described(third),
            "broken workflows and forms": lambda: self.broken(third),
            "raw": lambda: self.raw(self.requests - 2 * third),
            "websockets": lambda: asyncio.run(self.websockets(300)),
        }
        print(f"{'kind':30} {'requests':>9} {'seconds':>8}")
        for kind, do in kinds.items():
            count, start = self.statuses.total(), time.perf_counter()
            do()
            print(f"{kind:30} {self.statuses.total() - count:9} {time.perf_counter() - start:8.1f}")
        time.sleep(1)
        self.ask("POST", "/queue", b'{"clear": true, "paused": false}')
        after, slowest = self.state(), self.slowest
        alive = self.ask("POST", "/prompt?wait=30", json.dumps({"prompt": {**GRAPH, "9": GRAPH["3"]}}).encode())
        print(f"\nstatuses: {dict(sorted(self.statuses.items()))}")
        print(
            f"5xx: {sum(count for status, count in self.statuses.items() if status.startswith('5'))}; "
            f"wrong answers: {len(self.bad)}; slowest answer: {1000 * slowest:.0f} ms; "
            f"all in {time.perf_counter() - began:.0f} s"
        )
        print(f"open files: {before[0]} before, {after[0]} after; memory: {before[1]} MB before, {after[1]} MB after")
        print(f"a prompt after all that: {json.loads(alive)['state']}")
        for text in self.bad[:20]:
            print("WRONG:", text)

    def state(self) -> tuple[int, int]:
        """Open files and resident megabytes of the server."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return len(os.listdir(f"/proc/{self.pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE") >> 20

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        began = time.perf_counter()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            answer = response.read()
            self.note(response.status, f"{method} {path} {body!r}"[:300], time.perf_counter() - began)
            return answer
        finally:
            connection.close()

    def note(self, status: int, what: str, seconds: float) -> None:
        self.statuses[f"{status}"] += 1
        self.slowest = max(self.slowest, seconds)
        if status >= 500:
            self.bad.append(f"{status}: {what}")

    # -- what the description allows, and what it does not
    # --------------------------------------------------------------

    def described(self, count: int) -> None:
        document = json.loads(self.ask("GET", "/openapi.json"))
        found = [item.ok() for item in schemathesis.openapi.from_dict(without_tuples(document)).get_all_operations()]
        operations = [item for item in found if item.path != "/ws"]
        goal = self.statuses.total() + count
        url = f"http://127.0.0.1:{self.port}"
        turn = 0
        while self.statuses.total() < goal:
            turn += 1
            for operation in operations:
                mode = schemathesis.GenerationMode.NEGATIVE if turn % 2 else schemathesis.GenerationMode.POSITIVE

                @seed(self.number * 1000 + turn)
                @settings(
                    max_examples=20,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def check(case: Any) -> None:
                    if isinstance(case.query, dict):
                        case.query.pop("wait", None)
                    began = time.perf_counter()
                    response = case.call(base_url=url, timeout=30)
                    self.note(response.status_code, case.as_curl_command()[:300], time.perf_counter() - began)
                    try:
                        case.validate_response(response, checks=CHECKS)
                    except Exception as error:
                        self.bad.append(f"{type(error).__name__}: {str(error)[:300]}")

                with contextlib.suppress(Unsatisfiable):  # there is nothing wrong to say to a route that takes nothing
                    check()
                if self.statuses.total() >= goal:
                    return

    # -- workflows and forms with something broken
    # ----------------------------------------------------------------------

    def broken(self, count: int) -> None:
        for _ in range(count):
            if self.random.random() < 0.2:
                self.form()
                continue
            body = self.mutated(
                {"prompt": GRAPH, "client_id": "fuzz", "extra_data": {"extra_pnginfo": {"workflow": {}}}}
            )
            data = self.text(body)
            if self.random.random() < 0.2:
                data = self.cut(data)
            headers = {"Content-Type": self.random.choice(["application/json", "text/plain", "x", ""])}
            if self.random.random() < 0.1:
                headers["Content-Encoding"] = self.random.choice(["gzip", "deflate", "br", "zstd", "identity", "x", ""])
                packed = gzip.compress(data)
                data = self.random.choice([data, packed, packed[: self.random.randrange(len(packed))]])
            self.ask("POST", "/" + self.random.choice(PATHS[:10] + ["prompt"] * 10), data, headers)

    def mutated(self, value: Any) -> Any:
        value = copy.deepcopy(value)
        for _ in range(self.random.randint(1, 3)):
            places = list(_places(value))
            if not places:
                return value
            holder, key = self.random.choice(places)
            kind = self.random.random()
            if kind < 0.6:
                holder[key] = copy.deepcopy(self.random.choice(ODD))
            elif kind < 0.8 and isinstance(holder, dict):
                holder[
                    self.random.choice(
                        [
                            "x",
                            "",
                            "__value__",
                            "1",
                            "wait",
                            "number",
                            "front",
                            "strict",
                            "prompt_id",
                            "webhook",
                            "partial_execution_targets",
                        ]
                    )
                ] = copy.deepcopy(self.random.choice(ODD))
            elif isinstance(holder, dict):
                del holder[key]
        return value

    def text(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=True).encode()

    def cut(self, data: bytes) -> bytes:
        at = self.random.randrange(len(data) + 1)
        return self.random.choice(
            [
                data[:at],
                data[:at] + b"\0" + data[at:],
                data[:at] + self.random.randbytes(1) + data[at + 1 :],
                data * 2,
                b"[" * 5000 + data,
                data.replace(b"1", b"1e999"),
                data.replace(b"1", b"9" * 5000),
                data.replace(b"{", b'{"a":1,"a":2,', 1),
            ]
        )

    def form(self) -> None:
        boundary = self.random.choice(["x", "--", "a" * 70, "a b"])
        parts = []
        for _ in range(self.random.randint(0, 4)):
            name = self.random.choice(["image", "subfolder", "type", "overwrite", "original_ref", "", "\0"])
            named = ["a.png", "../x.png", "%2e%2e.png", "nul.png", "a.html", ""]
            filename = self.random.choice(["", *(f'; filename="{item}"' for item in named)])
            content = self.random.choice(
                [PNG, self.cut(PNG), b"", b"../..", b"true", b'{"filename": "a.png"}', b"\xff" * 100]
            )
            parts.append(f'Content-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + content)
        body = (
            b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
        )
        if self.random.random() < 0.3:
            body = self.cut(body)
        path = self.random.choice(["/upload/image", "/upload/mask"])
        self.ask("POST", path, body, {"Content-Type": f'multipart/form-data; boundary="{boundary}"'})

    # -- raw bytes
    # ------------------------------------------------------------------------------------------------------

    def raw(self, count: int) -> None:
        for _ in range(count):
            odd = self.random.choice(ODD)
            text = odd if isinstance(odd, str) else json.dumps(odd)
            path = (
                "/"
                + self.random.choice(GETS)
                + quote(text, safe="/%?=&;" if self.random.random() < 0.5 else "", errors="replace")
            )
            if self.random.random() < 0.3:
                path += "".join(chr(self.random.randrange(33, 127)) for _ in range(self.random.randint(1, 30)))
            head = {
                "Host": self.random.choice(["localhost"] * 6 + ["evil.example", "", "localhost:99999", "[::1"]),
                self.random.choice(HEADS): self.random.choice(
                    [
                        "null",
                        "x" * 500,
                        "bytes=0-",
                        "deflate",
                        "text/event-stream",
                        "100-continue",
                        "\xff",
                        "a=b;c",
                        "gzip",
                        "br",
                        "chunked",
                    ]
                ),
            }
            method = self.random.choice(
                ["GET"] * 8 + ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"]
            )
            lines = [
                f"{method} {path} HTTP/1.{self.random.choice('11101')}",
                *(f"{key}: {value}" for key, value in head.items()),
            ]
            body = b"" if method in ("GET", "HEAD") else self.cut(b'{"prompt": {}}')
            data = (
                "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""]).encode("latin-1")
                + body
            )
            self.send(data)

    def send(self, data: bytes) -> None:
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(data)
            answer = connection.recv(64)
            found = re.match(rb"HTTP/1\.[01] (\d+)", answer)
            self.note(int(found[1]) if found else 0, repr(data)[:300], time.perf_counter() - began)

    # -- websockets
    # -----------------------------------------------------------------------------------------------------

    async def websockets(self, count: int) -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(count):
                try:
                    async with session.ws_connect(f"http://127.0.0.1:{self.port}/ws?clientId=fuzz") as ws:
                        for _ in range(self.random.randint(0, 20)):
                            odd = self.mutated({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                            if self.random.random() < 0.3:
                                await ws.send_bytes(self.random.randbytes(self.random.randrange(3000)))
                            else:
                                await ws.send_str(json.dumps(odd))
                        self.statuses["websocket"] += 1
                except (aiohttp.ClientError, ConnectionError):
                    self.statuses["websocket"] += 1


def _places(value: Any) -> Any:
    """All places in a JSON value where something could be put instead."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


PNG = _png()


def without_tuples(schema: Any) -> Any:
    """schemathesis rewrites the `prefixItems` of answers in a form that it then refuses; test_messages.py checks
    those."""
    if isinstance(schema, dict):
        return {key: without_tuples(value) for key, value in schema.items() if key != "prefixItems"}
    return [without_tuples(item) for item in schema] if isinstance(schema, list) else schema


CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]

if __name__ == "__main__":
    main()
