"""A file that cannot be written is a Problem which names it, and what to do."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphflow import GraphFlowError, Problem

__all__ = ["writing"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = tuple(f"(os error {number})" for number in _FULL)
"""safetensors raises its own error, which has the number in its text."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes a file or a folder."""
    try:
        yield
    except _kinds() as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        is_full = getattr(error, "errno", None) in _FULL or str(error).endswith(_FULL_TEXTS)
        hint = "make room on the disk" if is_full else "name a folder that can be written"
        message = f"{path} cannot be written: {reason}"
        raise GraphFlowError([Problem("not_written", message, hint=f"{hint}, and run it again")]) from error


def _kinds() -> tuple[type[Exception], ...]:
    """The errors of writing. What has not been imported raises none, and a cached run does not import it."""
    safetensors = sys.modules.get("safetensors")
    return (OSError,) if safetensors is None else (OSError, safetensors.SafetensorError)
