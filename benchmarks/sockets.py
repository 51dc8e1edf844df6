"""What websockets cost: many that listen, one that has stopped reading. `python -m benchmarks.sockets`

The server is in a process of its own. A node sends messages to everybody at a steady rate; each client notes how late
each message is. Nobody may hear later because of the stalled one; that it is cut off is tested in
tests/server/live/test_socket.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

PACK = '''
import time
from graphflow import Context, Ui, node

@node("Beat", version="1", output=True, deterministic=False)
def beat(context: Context, count: int = 100, rate: float = 10.0, size: int = 1000) -> Ui:
    """Says something again and again, with the time at which it was said."""
    began = time.time()
    for index in range(count):
        time.sleep(max(0.0, began + index / rate - time.time()))
        context.send("beat", {"at": time.time(), "text": "x" * size})
    return Ui({"value": [count]})
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=10.0, help="messages a second, to every client")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--size", type=int, default=20_000, help="bytes of a message")
    options = parser.parse_args()
    print(f"{options.clients} clients, {options.rate:g} messages of {options.size} bytes a second to each\n")
    print(f"{'':34} {'median':>8} {'p99':>8} {'longest':>8}")
    for stalled in (0, 1):
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(Path(folder), options, stalled))


async def measure(folder: Path, options: argparse.Namespace, stalled: int) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "beat.py").write_text(PACK)
    command = [
        sys.executable,
        "-m",
        "graphflow.cli",
        "serve",
        "--port",
        "0",
        "--nodes",
        "pack",
        "--no-cache",
        "--log-level",
        "WARNING",
    ]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(re.search(r":(\d+)", server.stdout.readline())[1])  # type: ignore[index]
        lag, lines = await listen(port, options, stalled)
    finally:
        server.terminate()
        server.wait(20)
    lag.sort()
    what = f"lag, {stalled} stalled" if stalled else "lag, all read"
    print(
        f"{what:34} {1000 * statistics.median(lag):5.1f} ms {1000 * lag[int(0.99 * len(lag))]:5.1f} ms "
        f"{1000 * lag[-1]:5.0f} ms"
        f"   ({len(lag)} messages)"
    )
    print(
        f"    longest gap of the event loop {1000 * float(lines['graphflow_event_loop_gap_seconds']):.0f} ms, "
        f"memory {float(lines['graphflow_memory_bytes']) / (1 << 20):.0f} MB"
    )


async def listen(port: int, options: argparse.Namespace, stalled: int) -> tuple[list[float], dict[str, str]]:
    url = f"http://127.0.0.1:{port}"
    lag: list[float] = []
    dead = [stall(port) for _ in range(stalled)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        ready = asyncio.Semaphore(0)

        async def one() -> None:
            async with session.ws_connect(f"{url}/ws") as ws:
                ready.release()
                heard = 0
                async for message in ws:
                    data = json.loads(message.data)
                    if data["type"] == "beat":
                        lag.append(time.time() - data["data"]["at"])
                        heard += 1
                        if heard == options.count:
                            return

        tasks = [asyncio.create_task(one()) for _ in range(options.clients)]
        for _ in tasks:
            await ready.acquire()
        beat = {"count": options.count, "rate": options.rate, "size": options.size}
        body = {"prompt": {"1": {"class_type": "Beat", "inputs": beat}}}
        async with session.post(f"{url}/prompt", json=body) as answer:
            assert answer.status == 200, await answer.text()
        await asyncio.gather(*tasks)
        async with session.get(f"{url}/metrics") as answer:
            lines = dict(line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if line[:1] != "#")
    for connection in dead:
        connection.close()
    return lag, lines


def stall(port: int) -> socket.socket:
    """A client that asks for everything and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return connection


if __name__ == "__main__":
    main()
