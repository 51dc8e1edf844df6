"""What `--compile auto` is for one run: settled before the run is planned, from what lies on disk. Imports no torch.

Runs that differ in prompts and seeds alone are alike: the same models in the same patches, the same sizes, the same
guidance. When all that runs of a kind ask networks for has been compiled, a note of that lies beside the code, and from
then on such runs have the compiled form, in this process and in the next. Until then they run eagerly, as with `off`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from pathlib import Path

from graphflow import Settings
from graphflow.spi import COMPILED, Bound, compiled_folder

from .compiler import mode_of
from .device import numerics_of
from .environment import numerics
from .machine import processor_line

__all__ = ["code_folder", "is_noted", "note", "processor", "settle"]

WEIGHTS = ("MODEL", "CONTROL_NET", "VAE")
"""Wire types of the networks that have a compiled form, or act in one."""


def settle(order: Mapping[str, Bound], recipe: Callable[[str], bytes], settings: Settings) -> Settings:
    """The settings of a run of these nodes (an entry point of `graphflow.settle`)."""
    if settings.compile != "auto" or mode_of(settings, numerics_of(settings).kind) == "off":
        return settings
    alike = _alike(order, recipe, settings)
    if alike is None:
        return settings
    return replace(settings, compile="on") if is_noted(alike) else replace(settings, alike=alike)


def code_folder() -> Path:
    """Where compiled code lies; torch looks there as well."""
    return Path(os.environ.setdefault(COMPILED, str(compiled_folder())))


def note(digest: bytes) -> None:
    """Note on disk that what a digest stands for has been compiled."""
    place = _place(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def is_noted(digest: bytes) -> bool:
    return _place(digest).exists()


def _place(digest: bytes) -> Path:
    return code_folder() / "graphflow" / digest.hex()


def _alike(order: Mapping[str, Bound], recipe: Callable[[str], bytes], settings: Settings) -> bytes | None:
    """A digest of the networks and sizes of a graph, and of the machine; None where no network is asked."""
    found = {fact for node in order.values() for fact in _facts(node, order, recipe)}
    if not any(fact.startswith("MODEL ") for fact in found):
        return None
    machine = (numerics(settings), platform.machine(), processor(), f"together {settings.together}")
    return blake2b("\n".join((*machine, *sorted(found))).encode(), digest_size=16).digest()


def _facts(node: Bound, order: Mapping[str, Bound], recipe: Callable[[str], bytes]) -> Iterator[str]:
    for name, link in node.links.items():
        type = node.inputs[name].type
        if type in WEIGHTS:
            yield f"{type} {recipe(link.node).hex()} {link.slot}"
        elif type == "LATENT":
            yield f"LATENT {_size(link.node, order, recipe)}"
    if "cfg" in node.literals:
        yield f"cfg {node.literals['cfg'] == 1.0}"  # without guidance a step asks half as many rows


def _size(node_id: str, order: Mapping[str, Bound], recipe: Callable[[str], bytes]) -> str:
    """What decides the size of a node's latent: sizes that stand in the graph, else where it comes from."""
    node = order[node_id]
    numbers = {name: value for name, value in node.literals.items() if isinstance(value, int | float)}
    if "width" in numbers and "height" in numbers:
        return f"{node.type.name} {sorted((name, value) for name, value in numbers.items() if 'seed' not in name)}"
    before = [link.node for name, link in node.links.items() if node.inputs[name].type == "LATENT"]
    if not before:
        return recipe(node_id).hex()
    factor = numbers.get("scale_by")
    return f"{factor} of {[_size(source, order, recipe) for source in before]}"


@cache
def processor() -> str:
    """What the processor can do: code that is made for one need not run on another."""
    return processor_line("flags")
