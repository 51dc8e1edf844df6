"""A node that asks for too much memory ends with an error, and takes neither its worker nor the server along."""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from graphflow_server.command.arguments import worker_memory
from graphflow_server.queue import PromptQueue, QueueSettings, Submission, WorkerConfig
from graphflow_server.worker.memory import machine_memory

NODES = """
from graphflow import Ui, node

@node("Hog", version="1", output=True, deterministic=False)
def hog(megabytes: int = 1) -> Ui:
    return Ui({"text": [len(bytearray(megabytes << 20))]})
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
                states.append(await queue.wait(accepted.prompt_id, 30))
            assert [prompt.state for prompt in states] == ["done", "failed", "done"]
            assert states[1].error["exception_type"] == "MemoryError"
            assert queue.worker.deaths == 0
            assert Path(f"/proc/{queue.worker.pid}/oom_score_adj").read_text().strip() == "800"
            assert Path("/proc/self/oom_score_adj").read_text().strip() != "800"

    asyncio.run(asyncio.wait_for(check(), 90))


def test_the_option_takes_a_size_or_auto_or_none():
    assert worker_memory("2GB") == 2 << 30 and worker_memory("none") is None
    assert worker_memory("auto") == machine_memory()
    with pytest.raises(ArgumentTypeError, match="too little"):
        worker_memory("10MB")
