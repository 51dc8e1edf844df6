"""Cheap nodes for tests of the queue: they write files, take their time, and fail in every way there is."""

import os
import sys
import time
from pathlib import Path

from graphflow import Context, Ui, node


@node("Write", version="1", output=True, deterministic=False)
def write(context: Context, text: str = "", seconds: float = 0.0, files: int = 1) -> Ui:
    """Write text files into the output folder, as nodes that save do: claimed by the run, numbered, whole."""
    from graphflow_nodes.files.user_files import save_numbered

    contents = (f"{text} {index}".encode() for index in range(files))
    saved = save_numbered(contents, context, context.settings.output_dir, "text", ".txt", "output")
    _sleep(context, seconds)
    return Ui({"files": saved})


@node("Steps", version="1")
def steps(context: Context, text: str = "", steps: int = 3, seconds: float = 0.1) -> str:
    """A loop that tells of its steps and goes on from the one it had reached."""
    log = context.settings.output_dir / f"steps-{text}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    at = context.restore() or 0
    while at < steps:
        time.sleep(seconds)
        at += 1
        with log.open("a") as file:
            file.write(f"{at}\n")
        context.keep(lambda at=at: at)
        context.progress(at, steps, lambda: b"picture")
    return f"{text} after {steps}"


@node("Deaf", version="1", deterministic=False)
def deaf(seconds: float = 60.0) -> str:
    """Sleeps and hears nothing."""
    time.sleep(seconds)
    return "awake"


@node("Strange", version="1", output=True, deterministic=False)
def strange(how: str = "object") -> Ui:
    """Shows what JSON has no word for, or much."""
    if how == "much":
        return Ui({"things": [{"id": index, "w": [1, 2, 3]} for index in range(100_000)]})
    return Ui({"object": {"things": [{1}, Path("x")]}, "nan": {"things": [float("nan")]}, "keys": {(1, 2): [3]}}[how])


@node("Misbehave", version="1", deterministic=False)
def misbehave(how: str = "raise", marker: str = "") -> str:
    """Fails; with a `marker` file only until that is there."""
    if marker and Path(marker).exists():
        return "behaved"
    if marker:
        Path(marker).touch()
    match how:
        case "stuck in C":
            import ctypes

            ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock, so no other thread runs
        case "raise":
            raise ValueError("out of luck")
        case "sys.exit":
            sys.exit(3)
        case "os._exit":
            os._exit(4)
        case "memory":
            raise MemoryError("too much")
        case "keyboard":
            raise KeyboardInterrupt
        case "broken device":
            import types

            def synchronize() -> None:
                raise RuntimeError("CUDA error: device-side assert triggered")

            cuda = types.SimpleNamespace(
                is_available=lambda: True, is_initialized=lambda: True, device_count=lambda: 0, synchronize=synchronize
            )
            sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
            raise RuntimeError("CUDA error: device-side assert triggered")
        case "leave a child":
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            os._exit(5)
        case "segfault":
            import ctypes

            ctypes.string_at(0)
    return how


def _sleep(context: Context, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        context.check_cancelled()
        time.sleep(0.01)
