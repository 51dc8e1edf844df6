"""Every installed node type as a typed function: `from graphflow_nodes import api as n`, then `n.KSampler(...)`.

Signatures and documentation for editors and type checkers are in `api.pyi`, which `graphflow stubs` writes.
Importing this loads no node pack; the first function that is asked for does.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from graphflow import Nodes


@cache
def _nodes() -> Nodes:
    return Nodes()


def __getattr__(name: str) -> Callable[..., Any]:
    return getattr(_nodes(), name)


def __dir__() -> list[str]:
    return dir(_nodes())
