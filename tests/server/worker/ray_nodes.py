"""A Ray cluster on this machine, in a process of its own (`python -m tests.server.worker.ray_nodes`), which ends with
the one that started it. Each node has room for one worker, and folders of its own."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["RayNodes", "everywhere", "tree"]


class RayNodes:
    def __init__(self, folders):
        """One node for each folder; the first is the head."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
        self.address, self.raylets = "", []
        for folder in folders:
            self.add(folder)

    def add(self, folder):
        """One more node; the process id of its raylet."""
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        self.address, raylet = json.loads(self._process.stdout.readline())
        self.raylets.append(raylet)
        return raylet

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)


def tree(pid):
    """The process, all that it has started, and so on."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                found += tree(int(child))
    return found


def everywhere(pid, number):
    """A signal to a whole machine."""
    for each in tree(pid):
        with suppress(ProcessLookupError):
            os.kill(each, number)


def main():
    from ray.cluster_utils import Cluster

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cluster = Cluster()
    try:
        for line in sys.stdin:
            node = cluster.add_node(
                num_cpus=1,
                num_gpus=0,
                object_store_memory=80 << 20,
                include_dashboard=False,
                env_vars={"GRAPHFLOW_CACHE": f"{line.strip()}/cache"},
            )
            out.write(json.dumps([cluster.address, node.all_processes["raylet"][0].process.pid]) + "\n")
            out.flush()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
