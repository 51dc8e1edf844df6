"""Weights that several processes of a machine hold once: in a file that each of them maps.

Model files are mapped as well, but weights are mostly used in another number format than the one that the file has, and
what is converted is a copy. Where several worker processes compute on the CPU, the first that has loaded a part writes
its weights, as they are used, into a folder that they share; it and the others then map that file, so that there is one
copy in main memory. Each weight begins at a multiple of 64 bytes, as where torch allocates memory itself: the
arithmetic of a CPU library may depend on that, and so may bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Hashable, Mapping
from contextlib import suppress
from mmap import ACCESS_COPY, mmap
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["FOLDER_VARIABLE", "MappedWeights", "shared_folder"]

FOLDER_VARIABLE = "GRAPHFLOW_SHARED_WEIGHTS"
ALIGNMENT = 64
START = 4096
"""Where the weights begin: behind the length of the header."""


def shared_folder() -> MappedWeights | None:
    """The folder that the processes of this machine share; None where there is only one."""
    stated = os.environ.get(FOLDER_VARIABLE)
    return MappedWeights(Path(stated)) if stated else None


class MappedWeights:
    """Files of weights in a folder, by key. A file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: Hashable) -> dict[str, Tensor]:
        """The weights of a part by name, mapped; none where nobody has written them."""
        path = self._path(key)
        try:
            with path.open("rb") as file, suppress(ValueError):
                whole = mmap(file.fileno(), 0, access=ACCESS_COPY)
                with torch.inference_mode(False):  # weights outlive the run that loads them
                    return _read(whole)
        except OSError:
            pass
        return {}

    def put(self, key: Hashable, weights: Mapping[str, Tensor]) -> None:
        """Write the weights of a part, unless somebody has. A folder that takes none means that each has a copy."""
        path = self._path(key)
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path.exists():
                return
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
                try:
                    _write(file, weights)
                    file.close()
                    os.replace(file.name, path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise

    def _path(self, key: Hashable) -> Path:
        return self._folder / hashlib.sha256(repr(key).encode()).hexdigest()[:40]


def _write(file: object, weights: Mapping[str, Tensor]) -> None:
    places, at = {}, 0
    for name, weight in weights.items():
        places[name] = [str(weight.dtype).removeprefix("torch."), list(weight.shape), at]
        at += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT
    header = json.dumps(places).encode()
    start = START + -(-len(header) // START) * START
    write = file.write  # type: ignore[attr-defined]
    write((len(header).to_bytes(8, "little") + bytes(START - 8) + header).ljust(start, b"\0"))
    for weight in weights.values():
        flat = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        data = flat.numpy().tobytes()
        write(data.ljust(-(-len(data) // ALIGNMENT) * ALIGNMENT, b"\0"))


def _read(whole: mmap) -> dict[str, Tensor]:
    length = int.from_bytes(whole[:8], "little")
    start = START + -(-length // START) * START
    found = {}
    for name, (dtype, shape, at) in json.loads(whole[START : START + length]).items():
        kind = getattr(torch, dtype)
        count = torch.Size(shape).numel()
        flat = (
            torch.frombuffer(whole, dtype=kind, count=count, offset=start + at) if count else torch.empty(0, dtype=kind)
        )
        found[name] = flat.reshape(shape)
    return found
