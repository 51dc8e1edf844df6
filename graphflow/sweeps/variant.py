"""The results of one variant of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..document.workflow import Place
from ..problem import Problem, UnknownName, did_you_mean
from ..request import Target, name_of
from ..results import NodeResult, SavedImage
from .axes import Variant

__all__ = ["Values", "VariantResult", "label"]


def label(value: Any) -> str:
    """A value in a few words."""
    return f"{value:g}" if isinstance(value, float) else str(value)


class Values(dict[Place, Any]):
    """The values of a variant, by place; a text names the place as it does in a workflow, or by its input alone."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant.values)
        self._base = variant.base

    if TYPE_CHECKING:

        def __getitem__(self, name: Place | str) -> Any: ...

    def __missing__(self, name: object) -> Any:
        if isinstance(name, str):
            found = [place for place in self if place.input == name]
            if not found and "." in name:
                found = [self._base.place(name)]
            if len(found) == 1 and found[0] in self:
                return self[found[0]]
        known = sorted({str(place) for place in self} | {place.input for place in self})
        problem = Problem("not_varied", f"{name} does not vary in this sweep", hint=did_you_mean(str(name), known))
        raise UnknownName([problem])


@dataclass(frozen=True, slots=True)
class VariantResult:
    """The results of one variant, or why there are none."""

    variant: Variant
    nodes: dict[str, NodeResult]
    """Its outputs, by the ids of the nodes in the workflow."""
    problems: tuple[Problem, ...] = ()

    @property
    def index(self) -> int:
        return self.variant.index

    @property
    def values(self) -> Values:
        """The values of the variant, by place: also `values["KSampler.seed"]`, `values["seed"]`."""
        return Values(self.variant)

    def __getitem__(self, node: Target) -> NodeResult:
        """The results of a node, as those of a Result. Raises UnknownName."""
        name = name_of(node)
        key = self.variant.base.find(name)
        if key not in self.nodes:
            text = f"variant {self.index} has no result of node {key}"
            raise UnknownName([Problem("no_result", text, hint=f"run with targets=[{name!r}]")])
        return self.nodes[key]

    @property
    def failed(self) -> bool:
        return bool(self.problems)

    @property
    def images(self) -> list[SavedImage]:
        return [image for item in self.nodes.values() for image in item.images]

    @property
    def paths(self) -> list[Path]:
        """All files that it has written, images among them."""
        return [path for item in self.nodes.values() for path in item.paths]
