"""Where node types come from: entry points (`graphflow.nodes`) and folders of Python files."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from .nodetype.node import NodeType
from .problem import InvalidNode, Problem, UnknownName, did_you_mean, show

__all__ = ["Registry"]


class Registry(dict[str, NodeType]):
    """Node types by name. `problems`: which packs could not be loaded, and why."""

    def __init__(self, types: Mapping[str, NodeType] | Iterable[object] = ()) -> None:
        super().__init__()
        self.problems: list[Problem] = []
        self.packs: dict[str, int] = {}
        self.web: dict[str, Path] = {}
        """Scripts for the editor that packs bring: name of the pack -> folder."""
        if isinstance(types, Mapping):
            self.update(types)
        else:
            for item in types:
                self.add(item)

    def add(self, function: object) -> None:
        """Add a function that was declared with `@node`."""
        found = function if isinstance(function, NodeType) else getattr(function, "node_type", None)
        if not isinstance(found, NodeType):
            name = getattr(function, "__name__", None)
            text = f"{name or show(function)} is not declared as a node"
            hint = f'write @gf.node("A Name") above `def {name}(...)`' if name else "give a function with @gf.node(...)"
            raise InvalidNode([Problem("not_a_node", text, hint=hint)])
        self[found.name] = found

    def __missing__(self, name: str) -> NodeType:
        hint = did_you_mean(str(name), self)
        raise UnknownName([Problem("unknown_node_type", f"there is no node type {name!r}", hint=hint)])

    def add_module(self, module: ModuleType, pack: str) -> None:
        """Add the node types of a module, and of the modules that it lists as `MODULES`."""
        types = [
            item.node_type
            for part in (module, *getattr(module, "MODULES", ()))
            for item in vars(part).values()
            if isinstance(getattr(item, "node_type", None), NodeType)
        ]
        self.update({found.name: found for found in types})
        self.packs[pack] = self.packs.get(pack, 0) + len({found.name for found in types})

    def add_folder(self, folder: Path) -> None:
        """Load every pack of a folder, ours and foreign ones; one that fails is reported and leaves the rest
        working."""
        from .foreign import load_pack, pack_paths

        if not folder.is_dir():
            self.problems.append(Problem("no_folder", f"{folder} is not a folder of node files"))
            return
        for path in pack_paths(folder):
            pack = load_pack(path)
            self.update(pack.types)
            self.problems.extend(pack.problems)
            self.packs[str(path)] = len(pack.types)
            if pack.web is not None:
                self.web[pack.name] = pack.web

    @classmethod
    def installed(cls, folders: Iterable[Path] = ()) -> Registry:
        """All node types of the installed packs, and of these folders."""
        registry = cls()
        registry.update(_from_entry_points()[0])
        registry.packs.update(_from_entry_points()[1])
        registry.problems.extend(_from_entry_points()[2])
        for folder in folders:
            registry.add_folder(Path(folder))
        return registry


@cache
def _from_entry_points() -> tuple[dict[str, NodeType], dict[str, int], tuple[Problem, ...]]:
    registry = Registry()
    for point in entry_points(group="graphflow.nodes"):
        try:
            registry.add_module(point.load(), point.name)
        except Exception as error:
            registry.problems.append(
                Problem(
                    "pack_failed",
                    f"the node pack {point.name!r} did not load: {error}",
                    hint=traceback.format_exc(limit=-1).strip(),
                )
            )
    return dict(registry), registry.packs, tuple(registry.problems)
