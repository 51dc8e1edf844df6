"""The log of the server: lines for people or JSON objects, with the prompt that a line is about; and the last lines for
the editor. Control characters are escaped in both, so no text of a user can make a line of its own.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

__all__ = ["FORMATS", "JSONLines", "RepeatFilter", "RecentLines", "TextLines", "set_up"]

FORMATS = ("auto", "text", "json")
"""`auto`: text on a terminal, else JSON."""

FIELDS = ("prompt_id", "node", "client", "method", "path", "status", "ms", "incident")
"""The attributes of a line besides its message, given as `extra={...}`."""


class JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """`12:31:05 warning  message  (prompt_id 5f2a, status 200)`, times in the zone of the machine."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        about = [(name, getattr(record, name, None)) for name in FIELDS]
        words = ", ".join(f"{name} {value}" for name, value in about if value is not None)
        line = f"{at} {record.levelname.lower():8} {record.getMessage()}" + (f"  ({words})" if words else "")
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return _printable(line) + trace


class RecentLines(logging.Handler):
    """Keeps the last lines, and hands each new one to `on_line`."""

    def __init__(self, kept: int = 500) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[dict[str, str]] = deque(maxlen=kept)
        self.on_line: Callable[[dict[str, str]], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        # Without tracebacks: these hold paths of this machine.
        line = {"t": _time(record), "m": _printable(record.getMessage()) + "\n"}
        self.lines.append(line)
        if self.on_line is not None:
            self.on_line(line)


class RepeatFilter:
    """A filter: of the same words again and again within `seconds`, only the first get through.

    With no file handles left, asyncio logs that for each connection that waits, hundreds of times a second.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._seen: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        words = record.getMessage()
        if record.created - self._seen.get(words, -math.inf) < self._seconds:
            return False
        self._seen = {text: at for text, at in self._seen.items() if record.created - at < self._seconds}
        self._seen[words] = record.created
        return True


def set_up(recent: RecentLines, level: str = "INFO", format: str = "auto") -> None:
    """For the process of `graphflow serve`: everything that the server and aiohttp log goes to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    as_text = format == "text" or (format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextLines() if as_text else JSONLines())
    root = logging.getLogger()
    root.handlers[:] = [handler, recent]
    root.setLevel(level)
    logging.getLogger("asyncio").addFilter(RepeatFilter())
    # It would log a traceback for every head that is not HTTP; the middleware logs our own mistakes.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
