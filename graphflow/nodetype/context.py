"""The side of a run that a node sees: progress, preview, cancellation, folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from ..events import Event as RunEvent
from ..events import Message, Picture, Progress, Text
from ..problem import Cancelled
from ..settings import Settings

if TYPE_CHECKING:
    from ..cache import Checkpoint
    from ..document.node import Node
    from .numbering import Numbering

__all__ = ["Context"]


class Context:
    """Given to a node that has a parameter annotated `Context`."""

    __slots__ = (
        "_asked",
        "_call",
        "_cancel",
        "_checkpoint",
        "_display",
        "_emit",
        "_extra_pnginfo",
        "_graph",
        "_node_id",
        "_workflow_json",
        "claims",
        "numbering",
        "record",
        "settings",
    )

    def __init__(
        self,
        node_id: str,
        settings: Settings,
        workflow_json: Callable[[], Mapping[str, Any]],
        emit: Callable[[RunEvent], None],
        cancel: Event,
        claims: Path | None = None,
        extra_pnginfo: Mapping[str, Any] | None = None,
        checkpoint: Checkpoint | None = None,
        *,
        call: int = 0,
        display: str | None = None,
        graph: Mapping[str, Node] | None = None,
        numbering: Numbering | None = None,
        record: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.settings = settings
        self.claims = claims
        """The folder in which a named run notes the files it has written: a run that starts again writes none twice."""
        self.numbering = numbering
        """The numbers of the files of a sweep, which belong to variants; None: the next free ones."""
        self.record = record
        """Makes the record of what a file is made by, as JSON: of each node its code, its files, its device."""
        self._node_id, self._display = node_id, display
        self._call: int | str = call
        self._graph: Mapping[str, Node] = graph if graph is not None else {}
        self._workflow_json = workflow_json
        self._extra_pnginfo = extra_pnginfo or {}
        self._emit = emit
        self._cancel = cancel
        self._checkpoint = checkpoint
        self._asked: set[str] = set()

    # -- where the node stands: not a part of its recipe, so a result for which one of these was read is not kept ------

    @property
    def node_id(self) -> str:
        self._asked.add("node_id")
        return self._node_id

    @property
    def call(self) -> int | str:
        """The number of this call of the node, where a list is mapped; `0.2` is the second that the node makes
        itself."""
        self._asked.add("call")
        return self._call

    @property
    def display(self) -> str | None:
        """The node of the workflow that this one was made by, if a node expanded into it."""
        self._asked.add("display")
        return self._display

    @property
    def graph(self) -> Mapping[str, Node]:
        """All nodes of the run so far, those of expansions, too."""
        self._asked.add("graph")
        return self._graph

    @property
    def extra_pnginfo(self) -> Mapping[str, Any]:
        """The texts that a saved image carries besides the workflow."""
        self._asked.add("extra_pnginfo")
        return self._extra_pnginfo

    def workflow_json(self) -> Mapping[str, Any]:
        """The workflow as JSON."""
        self._asked.add("workflow_json")
        return self._workflow_json()

    def do_not_cache(self) -> None:
        """This result depends on more than the inputs: on what the machine had to spare, for example."""
        self._asked.add("more than the inputs")

    @property
    def asked(self) -> frozenset[str]:
        """Which of these the node has read or stated."""
        return frozenset(self._asked)

    # -- what the node reports and asks -------------------------------------------------------------------------------

    def progress(self, step: int, total: int, preview: Callable[[], bytes] | None = None) -> None:
        """Report how far the node is. Raises Cancelled when the run is to stop.

        `preview` makes a small JPEG if somebody wants to look; it may be called later, from any thread, or never.
        """
        self.check_cancelled()
        self._emit(Progress(self._node_id, step, total, preview, self._display))

    def metadata(self) -> dict[str, str]:
        """The texts that a saved file carries: the workflow as `prompt`, `extra_pnginfo`, and the record of what made
        it as `graphflow`; none where the settings switch them off."""
        if not self.settings.metadata:
            return {}
        record = {"graphflow": self.record()} if self.record is not None else {}
        found = {"prompt": self.workflow_json(), **self.extra_pnginfo, **record}
        return {key: json.dumps(value) for key, value in found.items()}

    def show(self, make: Callable[[], bytes], type: str = "image/png", is_result: bool = True) -> None:
        """Give an image to the listeners of the run without a file; `make` makes it, in the format `type`.

        A result reaches every listener, in order. A look at work in progress (`is_result=False`) may be made later or
        never.
        """
        self.check_cancelled()
        self._emit(Picture(self._node_id, make, type, is_result, self._display))

    def say(self, text: str, node_id: str | None = None) -> None:
        """Report in a line of text what the node, or another one, is doing; the newest counts."""
        self._emit(Text(node_id or self._node_id, text))

    def send(self, type: str, data: Any) -> None:
        """Give the listeners of the run something that has no other form; JSON."""
        self._emit(Message(self._node_id, type, data))

    def restore(self) -> Any:
        """The state that this very computation kept before it was stopped, or None."""
        return self._checkpoint.load() if self._checkpoint is not None else None

    def keep(self, make: Callable[[], Any]) -> None:
        """Let `make()` be stored as the state to go on from: now and then, and when the run is being cancelled."""
        if self._checkpoint is not None:
            self._checkpoint.save(make, at_once=self._cancel.is_set())

    def within(self, number: int) -> Context:
        """For the node function that this node calls as its first, second ... one.

        Its files are kept apart from those of the others. It keeps no state to go on from: it would find that of
        another.
        """
        inner = copy(self)
        inner._call = f"{self._call}.{number}"
        inner._checkpoint = None
        return inner

    @property
    def is_cancelled(self) -> bool:
        return self._cancel.is_set()

    def check_cancelled(self) -> None:
        if self._cancel.is_set():
            raise Cancelled()
