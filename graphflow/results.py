"""The results of a run: the outputs, files and messages of its nodes. They show themselves in a notebook."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .cache import CacheEntry
from .check.validate import Bound
from .document.workflow import Workflow
from .events import ModelEvent
from .look.show import html_of_files, html_of_outputs, in_words
from .problem import InvalidWorkflow, Problem, UnknownName, did_you_mean
from .request import Target, name_of
from .values import share

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ByNode", "NodeResult", "Result", "SavedImage", "node_result"]

V = TypeVar("V")


class ByNode(dict[str, V]):
    """Values by the ids of nodes; `timings["KSampler"]` finds the node by its title or type as well."""

    def __init__(self, workflow: Workflow, values: Mapping[str, V]) -> None:
        super().__init__(values)
        self._workflow = workflow

    def __missing__(self, name: str) -> V:
        """Raises UnknownName."""
        key = self._workflow.find(name)
        if key not in self:
            raise UnknownName([Problem("no_result", f"there is none of node {key}: it did not run")])
        return self[key]


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image that a run has written. `numpy.asarray(image)` is its pixels, uint8 [H,W,C]; it goes wherever a
    path does: `PIL.Image.open(image)`, `gf.redraw(image)`."""

    path: Path

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        from PIL import Image

        with Image.open(self.path) as image:
            return image.size

    @property
    def pil(self) -> Image:
        """The image as Pillow has it, with the texts that it carries."""
        from PIL import Image

        with Image.open(self.path) as image:
            image.load()
            return image.copy() if image.format is None else image

    def save(self, path: str | Path) -> Path:
        """Write it to another place: the same bytes where the ending is the same, else converted. Returns the path."""
        target = Path(path)
        if target.is_dir():
            target = target / self.path.name
        if target.suffix.lower() == self.path.suffix.lower():
            shutil.copyfile(self.path, target)
        else:
            image = self.pil
            has_no_alpha = target.suffix.lower() in (".jpg", ".jpeg")
            (image.convert("RGB") if has_no_alpha else image).save(target)
        return target

    def __fspath__(self) -> str:
        return str(self.path)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        return np.asarray(self.pil, dtype=dtype)

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True, repr=False)
class NodeResult:
    """The results of one node: `result["VAEDecode"]["IMAGE"]` is the value of an output."""

    outputs: dict[str, Any]
    ui: dict[str, Any]

    @property
    def images(self) -> list[SavedImage]:
        return [SavedImage(Path(item["path"])) for item in self.ui.get("images", ()) if "path" in item]

    @property
    def paths(self) -> list[Path]:
        """All files that the node has written, images among them."""
        items = [item for shown in self.ui.values() if isinstance(shown, (list, tuple)) for item in shown]
        return [Path(item["path"]) for item in items if isinstance(item, dict) and "path" in item]

    def __getitem__(self, output: str | int) -> Any:
        """The value of an output, by its name or its number. Raises UnknownName."""
        names = list(self.outputs)
        name = names[output] if isinstance(output, int) and 0 <= output < len(names) else output
        if name not in self.outputs:
            text = f"there is no output {output!r}"
            raise UnknownName([Problem("no_output_named", text, hint=did_you_mean(str(output), names))])
        return self.outputs[str(name)]

    def __repr__(self) -> str:
        outputs = "".join(f" {name}={in_words(value)}" for name, value in self.outputs.items())
        files = "".join(f" {path}" for path in self.paths)
        return f"<NodeResult{outputs}{files}>"

    def _repr_html_(self) -> str:
        return html_of_files(self.paths) + html_of_outputs(self.outputs)


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The results of a run, by node: `result["SaveImage"]` with an id, a title, a type, or the node of a graph
    itself."""

    workflow: Workflow
    nodes: dict[str, NodeResult]
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds of each node that ran, of its own work: without loading models and importing libraries."""
    cached: tuple[str, ...] = ()
    """Nodes that did not have to run."""
    seconds: float = 0.0
    models: tuple[ModelEvent, ...] = ()
    """The models that devices loaded, used again and dropped: file, part, number format, bytes, seconds."""
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes of main memory that each node which computes on a device needed at its peak, beyond those that were held
    before; empty where the system cannot tell (it is Linux that can)."""
    peek: Callable[[str], NodeResult | None] | None = field(default=None, compare=False)
    """The results that the engine's cache holds of another node of the run, by id."""
    loading: dict[str, float] = field(default_factory=dict)
    """Seconds in which models were loaded for a node."""
    importing: float = 0.0
    """Seconds in which the process imported libraries while nodes ran: torch and others, once in a process."""

    def __getitem__(self, node: Target) -> NodeResult:
        """The results of a node that was asked for, or that the cache holds. Raises UnknownName."""
        name = name_of(node)
        key = self.workflow.find(name)
        found = self.nodes.get(key)
        if found is None and self.peek is not None:
            found = self.peek(key)
        if found is None:
            text = f"no result of node {key} was asked for, and no cache holds one"
            raise UnknownName([Problem("no_result", text, hint=f"run with targets=[{name!r}]")])
        return found

    def __contains__(self, node: object) -> bool:
        try:
            return self.workflow.find(name_of(node)) in self.nodes
        except InvalidWorkflow:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    @property
    def images(self) -> list[SavedImage]:
        return [image for item in self.nodes.values() for image in item.images]

    @property
    def paths(self) -> list[Path]:
        """All files that the run has written, or had written when it was first made."""
        return [path for item in self.nodes.values() for path in item.paths]

    def __repr__(self) -> str:
        return f"<Result: {len(self.timings)} nodes ran, {len(self.cached)} cached, {self.seconds:.2f} s>"

    def _repr_html_(self) -> str:
        return "".join(item._repr_html_() for item in self.nodes.values()) + f"<div>{escape(repr(self)[9:-1])}</div>"


def node_result(node: Bound, entry: CacheEntry) -> NodeResult:
    kinds = node.type.outputs
    given = (None,) * len(kinds) if entry.outputs is None else entry.outputs
    named = {kind.name: share(value) for kind, value in zip(kinds, given, strict=True) if not kind.is_passed_on}
    return NodeResult(named, share(entry.ui) if entry.ui else {})
