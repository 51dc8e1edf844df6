"""Workers that Ray starts and places: one actor a device, each with the program of `graphflow worker` in it.

Ray is not in the server, nor in `graphflow workers`: its driver is a child process (`python -m
graphflow_server.worker.on_ray`), because Ray ends a driver whose cluster is gone with `exit`. No prompt, result or
weight goes through Ray: the actors connect to the server, like workers anywhere.
"""

from .launcher import Launcher
from .plan import RayPlan

__all__ = ["Launcher", "RayPlan"]
