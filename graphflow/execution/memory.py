"""The main memory that a call needed at its peak. Linux alone can tell: elsewhere there is no figure."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PeakMemory"]

STATUS = Path("/proc/self/status")
MARKS = Path("/proc/self/clear_refs")
RESET = b"5"
"""Sets the high-water mark of the process back to what it holds now (proc(5))."""


class PeakMemory:
    """Begins to measure when it is made. Of calls that go on at the same time, each has the memory of all."""

    def __init__(self) -> None:
        try:
            MARKS.write_bytes(RESET)
            self._before: int | None = _held("VmRSS")
        except OSError:
            self._before = None

    def bytes(self) -> int | None:
        """The bytes that the process held at most since then, beyond those that it held before."""
        return None if self._before is None else max(0, _held("VmHWM") - self._before)


def _held(name: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    _, _, after = STATUS.read_text().partition(f"{name}:")
    return int(after.split(maxsplit=1)[0]) << 10
