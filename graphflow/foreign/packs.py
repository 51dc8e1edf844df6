"""Loading a pack: a Python file, or a folder with `__init__.py`, and the node classes that it exports."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..nodetype.node import NodeType
from ..problem import Problem
from . import standins
from .classes import adapt
from .pack_source import read_source

__all__ = ["Pack", "load_pack", "pack_paths"]


@dataclass(slots=True)
class Pack:
    """The node types and problems that were found in a file or folder."""

    name: str
    path: Path
    types: dict[str, NodeType] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    is_foreign: bool = False
    web: Path | None = None
    """A folder of scripts for the editor."""


def pack_paths(folder: Path) -> Iterator[Path]:
    """The packs that lie in a folder."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("_", ".")) or path.name.endswith(".disabled"):
            continue
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield path


def load_pack(path: Path) -> Pack:
    """Import a pack and collect its node types, ours and foreign ones. What fails is among its problems."""
    pack = Pack(path.stem, path)
    was_enabled = standins.is_enabled()
    standins.enable()
    try:
        module = _import(path)
        pack.types.update(_typed(module, pack.name))
        _add_classes(pack, module)
        web = getattr(module, "WEB_DIRECTORY", None)
        if isinstance(web, str) and (path / web).is_dir():
            pack.web = (path / web).resolve()
    except (Exception, SystemExit) as error:
        pack.problems.append(
            Problem("pack_failed", f"{path} did not load: {type(error).__name__}: {error}", hint=_story(path))
        )
    finally:
        if not pack.is_foreign and not was_enabled:
            standins.disable()
    return pack


def _import(path: Path) -> ModuleType:
    name = f"graphflow_pack_{path.stem}"
    is_folder = path.is_dir()
    spec = importlib.util.spec_from_file_location(
        name, path / "__init__.py" if is_folder else path, submodule_search_locations=[str(path)] if is_folder else None
    )
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with redirect_stdout(sys.stderr):  # a greeting of a pack is no output of ours
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _typed(module: ModuleType, pack: str) -> dict[str, NodeType]:
    found = (getattr(item, "node_type", None) for item in vars(module).values())
    return {kind.name: replace(kind, pack=pack, is_loose=True) for kind in found if isinstance(kind, NodeType)}


def _add_classes(pack: Pack, module: ModuleType) -> None:
    """The classes of NODE_CLASS_MAPPINGS, the pack's own and the program's, and those that `comfy_entrypoint` gives."""
    common = standins.node_module()
    classes = common.NODE_CLASS_MAPPINGS.assigned_by(module.__name__) if common is not None else {}
    titles = {name: common.NODE_DISPLAY_NAME_MAPPINGS.get(name) for name in classes}
    exported = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if common is None or exported is not common.NODE_CLASS_MAPPINGS:
        classes |= exported or {}
    titles |= getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}
    entry = getattr(module, "comfy_entrypoint", None)
    if entry is not None:
        for kind in asyncio.run(_nodes_of(entry)):
            face = kind.as_old_class()
            classes[face.NODE_ID] = face
            titles[face.NODE_ID] = face.DISPLAY_NAME
    if not classes:
        return
    pack.is_foreign = True
    if common is not None:
        common.NODE_CLASS_MAPPINGS.tell(classes)
    source = read_source(pack.path)
    for name, kind in classes.items():
        try:
            pack.types[name] = adapt(name, kind, str(titles.get(name) or name), pack.name, source)
        except Exception as error:
            pack.problems.append(
                Problem(
                    "node_type_failed",
                    f"the node type {name!r} of {pack.path} cannot be used: {type(error).__name__}: {error}",
                    hint=_story(pack.path),
                )
            )


async def _nodes_of(entry: object) -> list[Any]:
    assert callable(entry)
    extension = entry()
    if inspect.isawaitable(extension):
        extension = await extension
    loaded = extension.on_load() if hasattr(extension, "on_load") else None
    if inspect.isawaitable(loaded):
        await loaded
    found = extension.get_node_list()
    return list(await found if inspect.isawaitable(found) else found)


def _story(path: Path) -> str:
    """The traceback, from the pack's own code on."""
    return "".join(traceback.format_exc(limit=-4)).strip()
