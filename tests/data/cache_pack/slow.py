"""Node types that write down each of their calls, so that several processes can be counted together."""

import os
import time
from pathlib import Path

from graphflow import Context, Latent, Ui, node


def _note(name: str) -> None:
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{name} {os.getpid()}\n")


@node("Slow", version="1")
def slow(value: int = 0, seconds: float = 0.0) -> int:
    """The value plus one, after a while."""
    _note("Slow")
    time.sleep(seconds)
    return value + 1


@node("Noise", version="1")
def noise(seed: int = 0, size: int = 64) -> Latent:
    """Random numbers, the same for the same seed."""
    import torch

    _note("Noise")
    return {"samples": torch.rand(1, 4, size, size, generator=torch.Generator().manual_seed(seed))}


@node("Tell", version="1", output=True)
def tell(context: Context, value: int = 0, latent: Latent | None = None) -> Ui:
    """Shows what arrives."""
    _note("Tell")
    return Ui({"value": [value if latent is None else float(latent["samples"].sum())]})


@node("Hang", version="1")
def hang(value: int = 0) -> int:
    """Waits until a file named in GATE is there, then gives the value plus one."""
    _note("Hang")
    while not Path(os.environ["GATE"]).exists():
        time.sleep(0.02)
    return value + 1
