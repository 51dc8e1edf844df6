"""The memory of a worker: a node that asks for too much ends with an error and takes neither its worker nor the server
along, and a prompt leaves nothing behind but what the cache may hold."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import tracemalloc
from argparse import ArgumentTypeError
from pathlib import Path
from threading import Thread

import pytest
from graphflow_server.command.arguments import worker_memory
from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig
from graphflow_server.worker import process
from graphflow_server.worker.blackbox import BlackBox
from graphflow_server.worker.folder_names import FolderNames
from graphflow_server.worker.memory import machine_memory
from graphflow_server.worker.residents import Residents
from graphflow_server.worker.sender import Sender

NODES = """
from graphflow import Ui, node

@node("Hog", version="1", output=True, deterministic=False)
def hog(megabytes: int = 1) -> Ui:
    return Ui({"text": [len(bytearray(megabytes << 20))]})

@node("Say", version="1", output=True)
def say(text: str) -> Ui:
    return Ui({"text": [text]})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_node_that_asks_for_too_much_fails_and_the_same_process_goes_on(tmp_path):
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "hog.py").write_text(NODES)
    worker = WorkerConfig(tmp_path / "output", nodes=(tmp_path / "nodes",), process_memory=1 << 30)

    def hog(megabytes: int) -> Submission:
        return Submission({"1": {"class_type": "Hog", "inputs": {"megabytes": megabytes}}})

    async def check():
        async with PromptQueue(QueueSettings(tmp_path / "state", worker)) as queue:
            states = []
            for megabytes in (1, 2000, 1):
                accepted = await queue.submit(hog(megabytes))
                states.append(await queue.wait(accepted.prompt_id, 240))
            assert [prompt.state for prompt in states] == ["done", "failed", "done"]
            assert states[1].error["exception_type"] == "MemoryError"
            assert queue.worker.deaths == 0
            assert Path(f"/proc/{queue.worker.pid}/oom_score_adj").read_text().strip() == "800"
            assert Path("/proc/self/oom_score_adj").read_text().strip() != "800"

    asyncio.run(asyncio.wait_for(check(), 300))


def test_the_option_takes_a_size_or_auto_or_none():
    assert worker_memory("2GB") == 2 << 30 and worker_memory("none") is None
    assert worker_memory("auto") == machine_memory()
    with pytest.raises(ArgumentTypeError, match="too little"):
        worker_memory("10MB")


def test_a_prompt_leaves_nothing_behind_but_what_the_memory_of_the_cache_may_hold(tmp_path):
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "hog.py").write_text(NODES)
    config = WorkerConfig(tmp_path / "output", nodes=(tmp_path / "nodes",), cache_dir=tmp_path / "cache")
    engine, places, box = config.engine(), FolderNames(config), BlackBox(tmp_path / "lock")
    engine.cache.memory.budget = 10_000
    ours, theirs = socket.socketpair()
    Thread(target=lambda: [None for _ in iter(lambda: theirs.recv(1 << 16), b"")], daemon=True).start()
    outbox = Sender(ours, 60.0, dict)
    orders = process._Orders(outbox)

    def run(numbers: range) -> None:
        for number in numbers:
            nodes = {"1": {"class_type": "Say", "inputs": {"text": f"the text {number}"}}}
            texts = json.dumps({"workflow": nodes, "extra": {}}).encode()
            order = process._Order({"prompt_id": str(number), "epoch": 1, "targets": []}, texts)
            assert process._run(engine, order, outbox, orders, box, places, Residents())
        engine.cache.flush()
        gc.collect()

    with engine, ours, theirs:
        tracemalloc.start()
        try:
            run(range(200))  # what is kept of the newest prompts is full afterwards
            before = tracemalloc.get_traced_memory()[0]
            run(range(200, 500))
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        outbox.close()
    assert grown < 300 * 200, f"{grown / 300:.0f} bytes a prompt"
