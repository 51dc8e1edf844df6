"""An engine on another machine: `gf.connect("http://host:8188", token=...)`.

The client comes from an entry point of the group `graphflow.clients`, named by the scheme of the address, and is loaded
only when it is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from threading import Event as Flag
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..document.workflow import Source
from ..engine import Result
from ..events import Event
from ..problem import InvalidWorkflow, Problem
from ..request import Targets

__all__ = ["Remote", "connect"]


class Remote(Protocol):
    """Runs workflows elsewhere, with the interface of an Engine. Files that a run writes there are fetched.

    Each method that waits has a form to await: `submit_async`, `result_async`, `cancel_async`, `validate_async`,
    `upload_async`, `fetch_async`, `run_async`.

    Every method raises GraphFlowError (`unreachable`, `refused`, `lost`) besides the errors that it names.
    """

    def __enter__(self) -> Remote: ...

    def __exit__(self, *_: object) -> None: ...

    def run(
        self,
        workflow: Source,
        *,
        targets: Targets | None = None,
        inputs: Mapping[Any, Any] | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: Flag | None = None,
        timeout: float | None = None,
        refresh: bool = False,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> Result:
        """As `Engine.run`. A `run_id` that the server knows already is not run again: its result is fetched."""

    async def run_async(self, workflow: Source, **options: Any) -> Result:
        """As `run`. Cancelling the task cancels the run on the server."""

    def stream(self, workflow: Source, **options: Any) -> AsyncIterator[Event]:
        """The events of a run as they happen; leaving the loop cancels it. Raises at its end what `run` raises."""

    def submit(
        self,
        workflow: Source,
        *,
        targets: Targets | None = None,
        run_id: str | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
    ) -> str:
        """Queue a workflow and go on; gives the id of the run. Raises InvalidWorkflow with all its problems."""

    def events(self, run_id: str) -> AsyncIterator[Event]:
        """The events of a run that was submitted, from its first one; leaving the loop leaves the run alone."""

    def result(self, run_id: str) -> Result:
        """Wait for the end of a run that was submitted. Raises NodeFailed, Cancelled."""

    def cancel(self, run_id: str) -> None:
        """Stop a run, or take it out of the queue."""

    def validate(self, workflow: Source) -> list[Problem]:
        """All problems of the workflow, as the server sees it."""

    def upload(self, path: str | Path, *, folder: str = "input", overwrite: bool = False) -> str:
        """Send an image; gives the name by which a LoadImage there finds it."""

    def fetch(self, name: str, *, folder: str = "output") -> bytes:
        """A file of the server, by its name below the folder (`input`, `output`, `temp`)."""

    async def submit_async(self, workflow: Source, **options: Any) -> str: ...

    async def result_async(self, run_id: str) -> Result: ...

    async def cancel_async(self, run_id: str) -> None: ...

    async def validate_async(self, workflow: Source) -> list[Problem]: ...

    async def upload_async(self, path: str | Path, *, folder: str = "input", overwrite: bool = False) -> str: ...

    async def fetch_async(self, name: str, *, folder: str = "output") -> bytes: ...


def connect(url: str, *, token: str | None = None, output_dir: str | Path = "output", **options: Any) -> Remote:
    """A remote engine. Connects to nothing yet; the files of its runs are put into `output_dir`.

    Works with `graphflow serve` and with other servers of ComfyUI's protocol.
    """
    scheme = urlsplit(url).scheme
    points = {point.name: point for point in entry_points(group="graphflow.clients")}
    if scheme not in points:
        raise InvalidWorkflow(
            [
                Problem(
                    "bad_address", f"{url!r} is not the address of a server", hint="write it like http://127.0.0.1:8188"
                )
            ]
        )
    remote: Remote = points[scheme].load()(url, token=token, output_dir=Path(output_dir), **options)
    return remote
