"""The parameters of a network, by name and shape, without torch from the second time on.

To know them, the network is built empty, and for that torch, diffusers and transformers are imported: seconds. So they
are kept in a small file of the cache folder, under a digest of all that they depend on: the function that builds the
network, its config, the versions of the libraries, and the state of this library's own files.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graphflow.spi import default_folder

from ..model.config import Config
from ..model.family import Part, part_config

__all__ = ["parameters_of"]

Shape = tuple[int, ...]
LIBRARIES = ("torch", "diffusers", "transformers")


def parameters_of(part: Part, config: Config, name: str) -> dict[str, Shape]:
    """Name -> shape of every parameter and buffer that the part `name` of a family is saved with."""
    stated = json.dumps([part.build, part_config(config, name).identity(), _surroundings()], default=str)
    digest = blake2b(stated.encode(), digest_size=16).hexdigest()
    path = default_folder() / "networks" / f"{digest}.json"
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return {key: tuple(shape) for key, shape in json.loads(path.read_bytes()).items()}
    from ..files.load import build

    found = {key: tuple(weight.shape) for key, weight in build(part, config, name).state_dict().items()}
    with suppress(OSError):  # a folder that cannot be written into costs time, and nothing else
        _write(path, found)
    return found


def _write(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(found))
    beside.replace(path)


@cache
def _surroundings() -> list[Any]:
    """All but the config that decides which parameters a network has."""
    house = Path(__file__).parents[1]
    files = [(str(path.relative_to(house)), path.stat()) for path in sorted(house.rglob("*.py"))]
    states = [(name, state.st_size, state.st_mtime_ns) for name, state in files]
    return [[version(name) for name in LIBRARIES], states]
