"""HttpRemote: a server as an engine. Each call opens its own connection, so it may be used from any thread or loop."""

from __future__ import annotations

import asyncio
import mimetypes
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from threading import Event as Flag
from threading import get_ident
from typing import Any, TypeVar

from graphflow import (
    Cancelled,
    Event,
    GraphFlowError,
    NodeFailed,
    NodeResult,
    Problem,
    Result,
    Source,
    Workflow,
    as_workflow,
)
from graphflow.spi import Targets, deadline, names_of

from .files import fetched
from .follow import FIRST_PAUSE, MISSES, MessageStream, follow, lost, patiently, reached
from .http import Connection, opened
from .messages import Translation

__all__ = ["HttpRemote"]

T = TypeVar("T")
STARTING = 10.0
"""Seconds that a server may need until it listens."""
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff")


class HttpRemote:
    """See `graphflow.Remote`; made by `gf.connect`.

    `patience`: seconds for which a server that does not answer, or is being restarted, is asked again. One that has
    never answered is taken for one that starts, for 10 of them.
    """

    def __init__(
        self, url: str, *, token: str | None = None, output_dir: Path = Path("output"), patience: float = 60.0
    ) -> None:
        self.url, self.output_dir, self.patience = url.rstrip("/"), output_dir, patience
        self._token = token
        self._submitted: dict[str, tuple[str, Workflow]] = {}
        """Of each run that was submitted: the client id that gets its events, and its workflow."""

    def __repr__(self) -> str:
        return f"<Remote {self.url}>"

    def __enter__(self) -> HttpRemote:
        return self

    def __exit__(self, *_: object) -> None: ...

    # -- run ---------------------------------------------------------------------------------------------------------

    def run(
        self, workflow: Source, *, cancel: Flag | None = None, timeout: float | None = None, **options: Any
    ) -> Result:
        with deadline(cancel, timeout) as until:
            return _waited(self.run_async(workflow, cancel=until, **options))

    async def run_async(self, workflow: Source, *, inputs: Mapping[Any, Any] | None = None, **options: Any) -> Result:
        workflow = as_workflow(workflow).set_all(inputs or {})
        translation = Translation(workflow)
        on_event: Callable[[Event], None] | None = options.pop("on_event", None)
        run_id = options.pop("run_id", None) or uuid.uuid4().hex
        async with aclosing(self._running(workflow, translation, run_id=run_id, **options)) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
        async with opened(self.url, self._token) as server:
            return await self._result(server, translation)

    async def stream(self, workflow: Source, **options: Any) -> AsyncIterator[Event]:
        workflow = as_workflow(workflow)
        translation = Translation(workflow)
        on_event: Callable[[Event], None] | None = options.pop("on_event", None)
        async with aclosing(self._running(workflow, translation, **options)) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
                yield event
        _raise(translation)

    async def _running(
        self,
        workflow: Workflow,
        translation: Translation,
        *,
        cancel: Flag | None = None,
        run_id: str | None = None,
        **options: Any,
    ) -> AsyncGenerator[Event, None]:
        """Post the workflow and follow it; whoever stops listening, or sets `cancel`, stops it."""
        client_id = uuid.uuid4().hex
        async with opened(self.url, self._token) as server, MessageStream(server, client_id, run_id) as live:
            prompt_id = translation.prompt_id = await self._post(server, workflow, client_id, run_id, **options)
            watch = asyncio.create_task(self._cancel_when(cancel, server, prompt_id)) if cancel is not None else None
            try:
                async with aclosing(follow(server, prompt_id, live, translation, self.patience)) as events:
                    async for event in events:
                        yield event
            finally:
                if watch is not None:
                    watch.cancel()
                if translation.status is None:
                    with suppress(Exception):
                        await asyncio.shield(asyncio.wait_for(server.cancel(prompt_id), 10))

    # -- submit, and come back later ---------------------------------------------------------------------------------

    def submit(self, workflow: Source, **options: Any) -> str:
        return _waited(self.submit_async(workflow, **options))

    async def submit_async(self, workflow: Source, *, run_id: str | None = None, **options: Any) -> str:
        async with opened(self.url, self._token) as server:
            client_id = uuid.uuid4().hex
            workflow = as_workflow(workflow)
            run_id = await self._post(server, workflow, client_id, run_id, **options)
        self._submitted[run_id] = (client_id, workflow)
        return run_id

    async def events(self, run_id: str) -> AsyncIterator[Event]:
        translation = Translation(await self._workflow(run_id))
        async for event in self._follow(run_id, translation):
            yield event

    def result(self, run_id: str) -> Result:
        return _waited(self.result_async(run_id))

    async def result_async(self, run_id: str) -> Result:
        translation = Translation(await self._workflow(run_id))
        async for _ in self._follow(run_id, translation):
            pass
        async with opened(self.url, self._token) as server:
            return await self._result(server, translation)

    def cancel(self, run_id: str) -> None:
        _waited(self.cancel_async(run_id))

    async def cancel_async(self, run_id: str) -> None:
        async with opened(self.url, self._token) as server:
            await server.cancel(run_id)

    # -- besides -----------------------------------------------------------------------------------------------------

    def validate(self, workflow: Source) -> list[Problem]:
        return _waited(self.validate_async(workflow))

    async def validate_async(self, workflow: Source) -> list[Problem]:
        async with opened(self.url, self._token) as server:
            answer = await server.post("/validate", {"prompt": _nodes(as_workflow(workflow))})
        return [Problem(**item) for item in answer["problems"]]

    def upload(self, path: str | Path, *, folder: str = "input", overwrite: bool = False) -> str:
        return _waited(self.upload_async(path, folder=folder, overwrite=overwrite))

    async def upload_async(self, path: str | Path, *, folder: str = "input", overwrite: bool = False) -> str:
        path = Path(path)
        if mimetypes.guess_type(path.name)[0] not in IMAGES or not path.is_file():
            raise GraphFlowError([Problem("no_image", f"{path} is not the file of an image")])
        async with opened(self.url, self._token) as server:
            return await server.upload(path, folder, overwrite)

    def fetch(self, name: str, *, folder: str = "output") -> bytes:
        return _waited(self.fetch_async(name, folder=folder))

    async def fetch_async(self, name: str, *, folder: str = "output") -> bytes:
        subfolder, _, filename = name.rpartition("/")
        async with opened(self.url, self._token) as server:
            return await server.view(filename, subfolder, folder)

    # -- parts -------------------------------------------------------------------------------------------------------

    async def _post(
        self,
        server: Connection,
        workflow: Workflow,
        client_id: str,
        run_id: str | None,
        *,
        targets: Targets | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
        refresh: bool = False,
    ) -> str:
        if refresh:
            raise GraphFlowError([Problem("not_offered", "a server does not compute anew what it has cached")])
        body: dict[str, Any] = {"prompt": _nodes(workflow), "client_id": client_id, "strict": True}
        if (names := names_of(targets)) is not None:
            body["partial_execution_targets"] = [workflow.find(name) for name in names]
        if extra_pnginfo:
            body["extra_data"] = {"extra_pnginfo": dict(extra_pnginfo)}
        if run_id is not None:
            body["prompt_id"] = run_id
        return await reached(lambda: server.prompt(body), min(self.patience, STARTING))

    async def _cancel_when(self, flag: Flag, server: Connection, prompt_id: str) -> None:
        while not flag.is_set():
            await asyncio.sleep(0.05)
        await patiently(lambda: server.cancel(prompt_id), self.patience)

    async def _follow(self, run_id: str, translation: Translation) -> AsyncGenerator[Event, None]:
        translation.prompt_id = run_id
        client_id = self._submitted[run_id][0] if run_id in self._submitted else uuid.uuid4().hex
        async with opened(self.url, self._token) as server, MessageStream(server, client_id, run_id) as live:
            async for event in follow(server, run_id, live, translation, self.patience):
                yield event

    async def _workflow(self, run_id: str) -> Workflow:
        if run_id in self._submitted:
            return self._submitted[run_id][1]
        async with opened(self.url, self._token) as server:
            for _ in range(MISSES):  # it may be on its way from one list to the other
                found = await server.waits_or_runs(run_id)
                if found is None and (entry := await server.history(run_id)) is not None:
                    found = entry["prompt"][2]
                if found is not None:
                    return Workflow.from_json(found)
                await asyncio.sleep(FIRST_PAUSE)
        raise lost(self.url, run_id)

    async def _result(self, server: Connection, translation: Translation) -> Result:
        _raise(translation)
        entry = await server.history(translation.prompt_id)
        outputs = (entry or {}).get("outputs") or translation.outputs
        nodes = {node: NodeResult({}, await fetched(server, ui or {}, self.output_dir)) for node, ui in outputs.items()}
        return Result(translation.workflow, nodes, translation.timings, translation.cached, translation.seconds)


def _nodes(workflow: Workflow) -> dict[str, Any]:
    """The nodes alone: other servers take everything else in a prompt for a broken node."""
    return Workflow(workflow).to_json()


def _raise(translation: Translation) -> None:
    if translation.status == "cancelled":
        raise Cancelled()
    if translation.status == "failed":
        raise NodeFailed(translation.problems)


def _waited(work: Coroutine[Any, Any, T]) -> T:
    """The result for a caller that does not await; in a notebook, whose loop runs already, from a thread of its own.

    An interrupt (Ctrl-C) cancels the work in either case.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []
    interrupted = Flag()

    async def noted() -> T:
        task = asyncio.ensure_future(work)
        tasks.append((asyncio.get_running_loop(), task))
        if interrupted.is_set():
            task.cancel()
        return await task

    with ThreadPoolExecutor(1) as pool:
        # A pool waits at its end for the threads that had started when they were asked for: this one, from here on.
        pool.submit(get_ident).result()
        try:
            return pool.submit(asyncio.run, noted()).result()
        except KeyboardInterrupt:
            interrupted.set()
            for loop, task in tasks:
                with suppress(RuntimeError):  # it is over by now
                    loop.call_soon_threadsafe(task.cancel)
            raise
