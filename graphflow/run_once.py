"""`gf.run(workflow)`: a run, or a sweep, without an engine of one's own.

Its cache is the folder that the command line uses, so nothing is computed twice by either of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event as Flag
from typing import Any, Literal

from .cache import Cache, default_folder
from .engine import Engine
from .events import Event
from .execution.stream import awaited
from .files.digests import Digests
from .plan.explain import Explanation
from .problem import Problem
from .registry import Registry
from .request import Targets
from .results import Result
from .settings import Settings
from .sources import Source

__all__ = ["CacheOption", "SIZE", "engine_for", "explain", "run", "run_async", "validate"]

SIZE = 20 << 30
"""Bytes that the cache folder may hold, unless the user says otherwise."""
CacheOption = Cache | str | Path | Literal["shared"] | None
"""A cache, its folder, "shared": the user's cache folder, or None: nothing is remembered."""


def engine_for(
    cache: CacheOption = "shared", *, registry: Registry | None = None, settings: Settings | None = None
) -> Engine:
    """An engine with this cache."""
    if cache is None:
        return Engine(registry, settings, Cache(memory=0))
    if isinstance(cache, Cache):
        return Engine(registry, settings, cache)
    folder = default_folder() if cache == "shared" else Path(cache)
    settings = settings or Settings(digests=Digests(folder / "files.sqlite"))
    return Engine(registry, settings, Cache(folder, size=SIZE))


def run(
    workflow: Source,
    inputs: Mapping[Any, Any] | None = None,
    *,
    cache: CacheOption = "shared",
    settings: Settings | None = None,
    registry: Registry | None = None,
    targets: Targets | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: Flag | None = None,
    timeout: float | None = None,
    refresh: bool = False,
    run_id: str | None = None,
    extra_pnginfo: Mapping[str, Any] | None = None,
) -> Result:
    """Run a workflow, a graph, a workflow file, or the name of a shipped workflow, on an engine of its own:
    `gf.run("text_to_image", {"KSampler.seed": 7})`.

    `cache`: by default the folder that the command line uses ($GRAPHFLOW_CACHE, or your cache folder); None for none.
    The other options are those of `Engine.run`.
    """
    with engine_for(cache, registry=registry, settings=settings) as engine:
        return engine.run(
            workflow,
            targets=targets,
            inputs=inputs,
            on_event=on_event,
            cancel=cancel,
            timeout=timeout,
            refresh=refresh,
            run_id=run_id,
            extra_pnginfo=extra_pnginfo,
        )


async def run_async(workflow: Source, inputs: Mapping[Any, Any] | None = None, **options: Any) -> Result:
    """As `run`, beside whatever else the event loop does. Cancelling the task cancels the run."""
    return await awaited(run, workflow, {"inputs": inputs, **options})


def validate(workflow: Source, *, registry: Registry | None = None, settings: Settings | None = None) -> list[Problem]:
    """All problems of the workflow; none means that it can run. Runs nothing."""
    return Engine(registry, settings).validate(workflow)


def explain(
    workflow: Source,
    *,
    cache: CacheOption = "shared",
    registry: Registry | None = None,
    settings: Settings | None = None,
) -> list[Explanation]:
    """For each node whether it is cached, and why; runs nothing. Raises InvalidWorkflow."""
    with engine_for(cache, registry=registry, settings=settings) as engine:
        return engine.explain(workflow)
