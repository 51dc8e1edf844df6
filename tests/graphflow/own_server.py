"""A `graphflow serve` of the tests: a process in a folder of its own, that can be killed and started again."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

TOKEN = "the-token-of-the-tests"
PACK = """
import time
from graphflow import Context, GraphFlowError, Ui, node

@node("Slow", deterministic=False)
def slow(context: Context, steps: int = 3, seconds: float = 0.0) -> int:
    for step in range(steps):
        context.progress(step + 1, steps)
        time.sleep(seconds)
    return steps

@node("Break")
def break_(value: int) -> int:
    raise ValueError("broken on purpose")

@node("Show", output=True)
def show(value: int) -> Ui:
    return Ui({"value": [value]})
"""


class Server:
    """A server process in a folder of its own, that can be killed and started again."""

    def __init__(self, folder: Path, options: tuple[str, ...] = ()) -> None:
        self.folder, self.options = folder, options
        (folder / "pack").mkdir()
        (folder / "pack" / "slow.py").write_text(PACK)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "graphflow.cli",
            "serve",
            "--port",
            str(self.port),
            "--token",
            TOKEN,
            "--nodes",
            "pack",
            "--cache-dir",
            "cache",
            *self.options,
        ]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        line = self.process.stdout.readline()
        assert re.search(r"http://127", line), line
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.killpg(self.process.pid, number)
        self.process.wait(60)
