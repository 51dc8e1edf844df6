"""Whether something failed because there was too little memory."""

from __future__ import annotations

from ..problem import GraphFlowError

__all__ = ["is_shortage"]

SIGNS = ("out_of_memory", "outofmemory", "out of memory", "memoryerror")


def is_shortage(error: BaseException) -> bool:
    """Of what a node has raised, or a run: there was too little memory, on the device or the machine."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, GraphFlowError):
        texts = [f"{problem.code} {problem.message}" for problem in error.problems]
    else:
        texts = [f"{type(error).__name__} {error}"]
    return any(sign in text.lower() for text in texts for sign in SIGNS)
