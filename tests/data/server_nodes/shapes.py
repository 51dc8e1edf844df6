"""Cheap nodes for tests of the HTTP face: every kind of input, an output without a file, a size that has a cap."""

import time
from pathlib import Path
from typing import Annotated

from graphflow import Choice, Context, Range, Ui, node


@node("Number", version="1")
def number(
    value: Annotated[int, Range(0, 100)] = 1, mode: Annotated[str, Choice(("plain", "fancy"))] = "plain", text: str = ""
) -> int:
    """A whole number from 0 to 100."""
    return value + len(text) * 0


@node("Show", version="1", output=True)
def show(value: int) -> Ui:
    """Shows a number and writes nothing."""
    return Ui({"value": [value]})


@node("Canvas", version="1")
def canvas(width: int = 64, height: int = 64, batch_size: int = 1, steps: int = 1) -> int:
    """Has a size, and does nothing with it."""
    return width * height * batch_size * steps


@node("Burn", version="1", deterministic=False)
def burn(context: Context, seconds: float = 1.0) -> int:
    """Keeps a core busy in pure Python, as a sampler does, and tells of it."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(10_000):
            count += 1
        context.progress(count % 1000, 1000, lambda: b"\xff\xd8\xff picture")
    return 1


@node("Tell", version="1", output=True, deterministic=False)
def tell(text: str = "", size: int = 1) -> Ui:
    """Shows a long text."""
    return Ui({"text": [text * size]})


@node("Stumble", version="1", output=True, deterministic=False)
def stumble(context: Context, where: str = "output", name: str = "x.png") -> Ui:
    """Fails at a file of a folder, as what reads and writes files does: with its whole path in the message."""
    settings = context.settings
    known = {
        "output": settings.output_dir,
        "input": settings.input_dir,
        "temp": settings.temp_dir,
        "models": settings.models[0],
    }
    (known[where] if where in known else Path(where)).joinpath(name).resolve().open()
    return Ui({})


@node("Save", version="1", output=True, deterministic=False)
def save(context: Context, filename_prefix: str = "saved") -> Ui:
    """Writes a text file where a prefix says, as nodes that save pictures do."""
    from graphflow_nodes.files.user_files import save_numbered

    folder = context.settings.output_dir
    return Ui({"files": save_numbered([b"text"], context, folder, filename_prefix, ".txt", "output")})
