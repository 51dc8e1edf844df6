"""The words of the protocol that more than one room uses; no models, so that the worker process need not load them."""

from __future__ import annotations

from typing import Literal

__all__ = ["ACTIVE", "FINISHED", "MESSAGE_TYPES", "TERMINAL", "CancelResult", "FolderName", "StateName"]

StateName = Literal["pending", "running", "done", "failed", "cancelled"]
"""The states of a prompt."""
ACTIVE: tuple[StateName, ...] = ("pending", "running")
FINISHED: tuple[StateName, ...] = ("done", "failed", "cancelled")

TERMINAL = ("execution_success", "execution_error", "execution_interrupted")
"""The last event of a prompt is one of these, and only the last."""
MESSAGE_TYPES = frozenset(
    {
        "status",
        "feature_flags",
        "logs",
        "execution_start",
        "execution_cached",
        "executing",
        "executed",
        "progress",
        "progress_state",
        *TERMINAL,
    }
)
"""Types of the websocket messages of the protocol itself; a node chooses other names for its own."""

CancelResult = Literal["cancelled", "cancelling", "finished", "unknown"]
"""The answer to a request to cancel a prompt: it had not begun; it runs and will end soon; too late; there is none."""

FolderName = Literal["output", "input", "temp"]
