"""All variants of a sweep as ONE plan: what two of them have in common, by recipe, is there once.

The workflow is checked as a whole once. After that only what changes is looked at: each changed node once for each
combination of its own values, and what stands on it once for each combination of the values above it. So the cost is
one dictionary look-up a node that a variant shares, and a few microseconds a node that it has for itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..check.validate import Bound, validate
from ..document.walks import depth_first
from ..document.workflow import Node, Place, Workflow, as_link
from ..nodetype.node import NodeType
from ..plan.fingerprint import Fingerprint, fingerprints, recipe_of
from ..problem import InvalidWorkflow, Problem, did_you_mean
from ..settings import Settings
from .axes import Axis, VariantList
from .plan import Merged, Own, Planned

__all__ = ["merge"]

Rows = tuple[int, ...]
"""Numbers of rows on some of the axes."""


def merge(
    variants: VariantList, types: Mapping[str, NodeType], settings: Settings, targets: Iterable[str] | None = None
) -> Merged:
    """Raises InvalidWorkflow where a place is wrong, or the workflow itself, whatever the variants have."""
    return _Merger(variants, types, settings, targets).merged()


class _Merger:
    def __init__(
        self, variants: VariantList, types: Mapping[str, NodeType], settings: Settings, targets: Iterable[str] | None
    ) -> None:
        self._variants, self._types, self._settings = variants, types, settings
        self._targets = None if targets is None else [variants.workflow.find(name) for name in targets]
        self._ids: dict[bytes, str] = {}
        separator = "@"
        while any(separator in node_id for node_id in variants.workflow):
            separator += "@"
        self._result = Merged(separator)

    def merged(self) -> Merged:
        self._check_places()
        structural = [i for i, axis in enumerate(self._variants.axes) if self._is_structural(axis)]
        bases: dict[Rows, _Base | _Invalid] = {}
        for index in self._variants.ordered(self._slowest_first()):
            rows = self._variants.coordinates(index)
            key = tuple([rows[i] for i in structural])
            if key not in bases:
                bases[key] = self._base(structural, index)
            base = bases[key]
            found = self._add(base, index, rows) if isinstance(base, _Base) else base
            if isinstance(found, _Invalid):
                self._result.invalid[index] = found.problems
            else:
                self._result.wanted[index] = found
        if not self._result.wanted:
            unique = dict.fromkeys(problem for found in self._result.invalid.values() for problem in found)
            if not self._variants.are_to_blame_for(unique):
                raise InvalidWorkflow(list(unique))
        return self._result

    def _check_places(self) -> None:
        """An input that a node does not have is passed over elsewhere; varying it can only be a mistake."""
        problems = []
        for place in self._variants.places:
            node = self._variants.workflow[place.node]
            kind = self._types.get(node.class_type)
            if kind is not None and kind.extra is None and place.input.partition(".")[0] not in kind.inputs:
                problems.append(
                    Problem(
                        "unknown_input",
                        f"{kind.name} has no such input, so it cannot be varied",
                        place.node,
                        node.title,
                        place.input,
                        did_you_mean(place.input, kind.inputs),
                    )
                )
        if problems:
            raise InvalidWorkflow(problems)

    def _is_structural(self, axis: Axis) -> bool:
        """Whether it changes more than a literal: the links, or which inputs there are. Then the whole is checked
        again."""
        if any(as_link(value) is not None for row in axis.rows for value in row):
            return True
        for place in axis.places:
            node = self._variants.workflow[place.node]
            kind = self._types.get(node.class_type)
            if kind is None or kind.is_dynamic or as_link(node.inputs.get(place.input)) is not None:
                return True
        return False

    def _slowest_first(self) -> list[int]:
        """Axes by how early in the graph they act, so that what shares a model and a prompt runs together."""
        order, _ = validate(self._variants.workflow, self._types, self._settings)
        position = {node_id: i for i, node_id in enumerate(order)}

        def earliest(axis: int) -> int:
            return min(position.get(place.node, 0) for place in self._variants.axes[axis].places)

        return sorted(range(len(self._variants.axes)), key=earliest)

    def _base(self, structural: list[int], index: int) -> _Base | _Invalid:
        """The workflow with the values that a variant has on these axes, checked as a whole."""
        variants = self._variants
        workflow = variants.workflow
        for axis, row in ((variants.axes[i], variants.coordinates(index)[i]) for i in structural):
            workflow = workflow.set_all(dict(zip(axis.places, axis.rows[row], strict=True)))
        plain = [i for i in range(len(variants.axes)) if i not in structural]
        order, problems = validate(workflow, self._types, self._settings)
        varied = {place for i in plain for place in variants.axes[i].places}
        # What the base itself has at a varied place counts for nothing: no variant has it.
        problems = [p for p in problems if p.node is None or Place(p.node, p.input or "") not in varied]
        if self._targets is not None:
            problems = [problem for problem in problems if problem.code != "no_output"]
        if problems:
            return _Invalid(tuple(problems))
        targets = self._targets or [
            node_id for node_id in workflow if node_id in order and order[node_id].type.is_output
        ]
        self._result.targets = tuple(targets)
        needed = depth_first(targets, lambda node_id: (link.node for link in order[node_id].links.values()))
        own: dict[str, list[int]] = {}
        for i in plain:
            for place in variants.axes[i].places:
                axes = own.setdefault(place.node, [])
                axes.extend([i] if i not in axes else [])
        base = _Base(targets)
        alike: dict[str, Bound] = {}
        for node_id, node in order.items():
            if node_id not in needed:
                continue
            above = (i for link in node.links.values() for i in base.axes.get(link.node, ()))
            if found := tuple(sorted({*own.get(node_id, ()), *above})):
                base.axes[node_id] = found
                if len(found) < len(plain):
                    base.made[node_id] = {}
            else:
                alike[node_id] = node
        try:
            for node_id, print_ in fingerprints(alike, self._settings).items():
                base.ids[node_id] = self._keep(node_id, index, Own(alike[node_id], print_), base.ids)
            for node_id in base.axes:
                if node_id in own:
                    base.own_axes[node_id] = tuple(own[node_id])
                    base.versions[node_id] = self._versions(workflow, node_id, own[node_id])
                else:
                    base.nodes[node_id] = self._own(node_id, order[node_id])
        except OSError as error:
            return _Invalid((Problem("unreadable_file", str(error)),))
        return base

    def _own(self, node_id: str, node: Bound) -> Own:
        nowhere = dict.fromkeys((link.node for link in node.links.values()), Fingerprint(b"", b"", ""))
        return Own(node, fingerprints({node_id: node}, self._settings, nowhere)[node_id])

    def _versions(self, workflow: Workflow, node_id: str, axes: list[int]) -> dict[Rows, Own | _Invalid]:
        """The node with each combination of its own values, all checked and fingerprinted in one go."""
        variants, node = self._variants, workflow[node_id]
        keys = list(itertools.product(*(range(len(variants.axes[i])) for i in axes)))
        copies: dict[str, Node] = {}
        for number, key in enumerate(keys):
            inputs = dict(node.inputs)
            for i, row in zip(axes, key, strict=True):
                for place, value in zip(variants.axes[i].places, variants.axes[i].rows[row], strict=True):
                    if place.node == node_id:
                        inputs[place.input] = value
            copies[f"{node_id}{self._result.separator}{number}"] = node.with_inputs(inputs)
        # Of what the node is linked to only the types count here; the workflow as a whole has been checked.
        sources = {link.node for value in node.inputs.values() if (link := as_link(value)) is not None}
        sources_alone = {key: workflow[key].with_inputs({}) for key in sources if key in workflow}
        bound, problems = validate(Workflow({**sources_alone, **copies}), self._types, self._settings)
        wrong: dict[str, list[Problem]] = {}
        for problem in problems:
            if problem.node in copies:
                wrong.setdefault(problem.node, []).append(replace(problem, node=node_id))
        found: dict[Rows, Own | _Invalid] = {}
        for key, copy in zip(keys, copies, strict=True):
            if copy in wrong:
                found[key] = _Invalid(tuple(wrong[copy]))
                continue
            try:
                found[key] = self._own(node_id, bound[copy])
            except OSError as error:
                title = node.title or node.class_type
                found[key] = _Invalid((Problem("unreadable_file", str(error), node_id, title),))
        return found

    def _add(self, base: _Base, index: int, rows: Rows) -> tuple[str, ...] | _Invalid:
        """The outputs of one variant, its nodes added; or what is wrong with it."""
        problems: list[Problem] = []
        nodes = base.nodes
        for node_id, axes in base.own_axes.items():
            version = base.versions[node_id][tuple([rows[i] for i in axes])]
            if isinstance(version, _Invalid):
                problems.extend(version.problems)
            else:
                nodes[node_id] = version
        if problems:
            return _Invalid(tuple(problems))
        ids = base.ids
        for node_id, axes in base.axes.items():
            made = base.made.get(node_id)
            if made is None:
                ids[node_id] = self._keep(node_id, index, nodes[node_id], ids)
                continue
            key = tuple([rows[i] for i in axes])
            known = made.get(key)
            if known is None:
                known = made[key] = self._keep(node_id, index, nodes[node_id], ids)
            ids[node_id] = known
        return tuple([ids[target] for target in base.targets])

    def _keep(self, node_id: str, index: int, own: Own, ids: Mapping[str, str]) -> str:
        """The id in the plan of a node whose sources have these ids: that of another one if it has the same recipe."""
        nodes = self._result.nodes
        links = own.node.links
        recipe = recipe_of(own.print.own, links, lambda source: nodes[ids[source]].recipe)
        known = self._ids.get(recipe)
        if known is not None:
            return known
        taken = index or node_id in nodes
        merged_id = f"{node_id}{self._result.separator}{index}" if taken else node_id
        nodes[merged_id] = Planned(own, tuple([ids[link.node] for link in links.values()]), recipe)
        self._ids[recipe] = merged_id
        return merged_id


@dataclass(frozen=True, slots=True)
class _Invalid:
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Base:
    """A checked workflow, of which only literals vary."""

    targets: list[str]
    ids: dict[str, str] = field(default_factory=dict)
    """Node -> its id in the plan, for the variant that is being added."""
    nodes: dict[str, Own] = field(default_factory=dict)
    """Node that varies -> how it is in the variant that is being added."""
    axes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Node -> the axes that change it, itself or through what it stands on; in topological order."""
    made: dict[str, dict[Rows, str]] = field(default_factory=dict)
    """Node -> rows on its axes -> its id in the plan. A node that every axis changes is another in each variant, and is
    not looked up here."""
    own_axes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Node -> the axes that vary its own inputs."""
    versions: dict[str, dict[Rows, Own | _Invalid]] = field(default_factory=dict)
    """Node -> rows on its own axes -> how it is then."""
