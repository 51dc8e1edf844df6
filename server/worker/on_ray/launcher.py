"""Keeps Ray's driver alive, as long as workers are wanted. Imports no Ray."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from importlib.util import find_spec
from typing import Any

from graphflow import GraphFlowError, Problem

from .plan import RayPlan

__all__ = ["Launcher"]

log = logging.getLogger("graphflow.worker")
LONGEST_PAUSE = 30.0
"""Seconds between two attempts to come back to a cluster that was lost."""
STOPS_WITHIN = 25.0


class Launcher:
    """The workers of a plan, on a cluster."""

    def __init__(self, plan: RayPlan) -> None:
        self._plan = plan
        self.hosts: dict[int, str] = {}
        """Number of each worker that a server has -> the machine that it is on."""
        self.was_connected = False

    async def serve(self) -> None:
        """Until it is cancelled. Raises GraphFlowError where Ray is not installed, where the cluster cannot be reached
        at first, and where it cannot run these workers."""
        if find_spec("ray") is None:
            hint = "pip install 'graphflow-engine[ray]', here and on every node"
            raise GraphFlowError([Problem("no_ray", "Ray is not installed", input="--ray", hint=hint)])
        pause = 0.0
        while True:
            began = asyncio.get_running_loop().time()
            problem = await self._drive()
            self.hosts.clear()
            if problem is not None and (not self.was_connected or problem.code != "no_cluster"):
                raise GraphFlowError([problem])
            lasted = asyncio.get_running_loop().time() - began
            pause = min(LONGEST_PAUSE, max(1.0, 2 * pause)) if lasted < 60 else 1.0
            log.warning("the Ray cluster is gone (%s); trying again", problem or "its driver has ended")
            await asyncio.sleep(pause)

    async def _drive(self) -> Problem | None:
        """One driver, from its start to its end; what was wrong, if it knows."""
        driver = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "graphflow_server.worker.on_ray",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which lets the driver end its work
        )
        assert driver.stdin is not None and driver.stdout is not None
        found: Problem | None = None
        try:
            driver.stdin.write(json.dumps(self._plan.to_json()).encode() + b"\n")
            async for line in driver.stdout:
                found = self._heard(json.loads(line)) or found
            await driver.wait()
            return found
        finally:
            await self._end(driver)

    def _heard(self, message: dict[str, Any]) -> Problem | None:
        """A line of the driver; a problem that ends it."""
        match message["kind"]:
            case "connected":
                self.was_connected = True
                log.info("connected to a Ray cluster of %d nodes", message["nodes"])
            case "worker":
                number, state, host = message["number"], message["state"], message["host"]
                if state == "connected":
                    self.hosts[number] = host
                else:
                    self.hosts.pop(number, None)
                log.info("worker %s %d on %s: %s", self._plan.name, number, host or "no node", state)
            case "problem":
                problem = Problem(**message["problem"])
                if message["is_final"]:
                    return problem
                log.warning("%s", problem)
        return None

    async def _end(self, driver: asyncio.subprocess.Process) -> None:
        if driver.returncode is not None:
            return
        assert driver.stdin is not None
        driver.stdin.close()
        ended = asyncio.ensure_future(driver.wait())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), STOPS_WITHIN)
            return
        with contextlib.suppress(ProcessLookupError):
            driver.kill()
        await ended
