"""Every problem of a workflow, at once; and, where there is none, the workflow bound to its node types.

Pure: no I/O but what the folders' choices need. One pass over nodes and links, no recursion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..document import walks
from ..document.frozen import FROZEN, thawed
from ..document.node import links_of, sources_of
from ..document.workflow import NOTES, Link, Node, Workflow, as_link
from ..nodetype.inputs import LITERAL_TYPES, OPTIONAL, WIDGETS, Input, flatten
from ..nodetype.node import NodeType
from ..nodetype.wires import compatible
from ..problem import GraphFlowError, Problem, show, with_article
from ..settings import Settings
from ..values import is_reference
from ..values.wires import from_python
from .graphs import check_graphs
from .literals import Choices, Report, canonical_literal

__all__ = ["Binder", "Bound", "runnable", "topological", "validate", "with_malformed"]

_NONE: frozenset[str] = frozenset()
NOT_RUN = "no result stands on this node, so it does not run"
NO_VALUE = "it names a Python value of another program, which is not here"


@dataclass(slots=True)
class Bound:
    """A node of the document with its type, its literals in canonical form (defaults filled in) and its links."""

    id: str
    type: NodeType
    literals: dict[str, Any]
    links: dict[str, Link]
    inputs: Mapping[str, Input]
    """The inputs that exist for it, by their flat names."""
    lazy: frozenset[str] = _NONE
    """Those that are computed only if it asks."""
    every: frozenset[str] = _NONE
    """Those that take a whole list."""


def validate(
    workflow: Workflow,
    types: Mapping[str, NodeType],
    settings: Settings,
    warnings: list[Problem] | None = None,
    targets: Iterable[str] = (),
) -> tuple[dict[str, Bound], list[Problem]]:
    """The bound nodes in topological order, and all problems; run only if there are none.

    `warnings` receives the problems that stop nothing: inputs that no node type declares (see `Binder._unknown`), and
    what is wrong with nodes that neither an output node nor one of the `targets` stands on, where nothing else is
    wrong. Such nodes are left out.
    """
    binder = Binder(workflow, types, settings, [] if warnings is None else warnings)
    bound: dict[str, Bound] = {}
    for node_id, node in workflow.items():
        if node.class_type not in NOTES:
            found = binder.bind(node_id, node)
            if found is not None:
                bound[node_id] = found
    problems = binder.problems
    if not any(item.type.is_output for item in bound.values()) and all(p.code != "unknown_node_type" for p in problems):
        outputs = sorted(name for name, kind in types.items() if kind.is_output)
        problems.append(
            Problem(
                "no_output",
                "no node of the workflow has an effect, so there is nothing to run",
                hint="add one of: " + ", ".join(outputs[:8]),
            )
        )
    order = topological(bound)
    rest = {key: item for key, item in bound.items() if key not in order} if len(order) < len(bound) else {}
    every = {**order, **rest} if rest else order
    binder.check_types(every, every)
    if rest:
        problems.extend(_cycles(rest, workflow))
    found_wrong, found_odd = check_graphs(runnable(order, problems), settings)
    problems.extend(found_wrong)
    binder.warnings.extend(found_odd)
    if problems and not rest and {problem.node for problem in problems} <= _idle(workflow, every, targets):
        binder.warnings.extend(replace(each, message=f"{each.message} ({NOT_RUN})") for each in problems)
        return runnable(order, problems), []
    return order, problems


def _idle(workflow: Workflow, bound: Mapping[str, Bound], targets: Iterable[str]) -> set[str]:
    """The nodes that no output node and no target stands on; none where there is no output node."""
    outputs = {key for key, item in bound.items() if item.type.is_output}
    if not outputs:
        return set()
    sources = sources_of(links_of(workflow))
    return bound.keys() - walks.reached({*outputs, *targets}, sources.__getitem__)


def with_malformed(malformed: list[Problem], workflow: Workflow, problems: Iterable[Problem]) -> list[Problem]:
    """The problems of nodes that could not be read, and those of the rest of the workflow, but for those that only
    follow from the lack of such nodes."""
    lost = {problem.node for problem in malformed}

    def follows(problem: Problem) -> bool:
        if problem.code != "missing_node" or problem.node is None or problem.input is None:
            return problem.code == "no_output"
        link = as_link(workflow[problem.node].inputs.get(problem.input))
        return link is not None and link.node in lost

    return malformed + [problem for problem in problems if not (lost and follows(problem))]


def runnable(order: Mapping[str, Bound], problems: Iterable[Problem]) -> dict[str, Bound]:
    """The nodes that can run: neither they nor any node that they stand on has a problem."""
    bad = {problem.node for problem in problems}
    if not bad:
        return dict(order)
    good: dict[str, Bound] = {}
    for node_id, item in order.items():
        if node_id not in bad and all(link.node in good for link in item.links.values()):
            good[node_id] = item
    return good


class Binder:
    """Binds nodes to their types, and collects what is wrong with them."""

    def __init__(
        self,
        workflow: Mapping[str, Node],
        types: Mapping[str, NodeType],
        settings: Settings,
        warnings: list[Problem],
        expanded: bool = False,
    ) -> None:
        self.problems: list[Problem] = []
        self._workflow, self._types, self.warnings = workflow, types, warnings
        self._settings, self._choices = settings, Choices(settings)
        self._suggestions = self._choices.suggestions
        self._expanded = expanded
        """The nodes were made by a node: their literals may be values of any type."""

    def bind(self, node_id: str, node: Node) -> Bound | None:
        """The bound node, with what is right in it; None where its type is not known."""
        kind = self._types.get(node.class_type)
        if kind is None:
            self.problems.append(
                Problem(
                    "unknown_node_type",
                    f"there is no node type {node.class_type!r}",
                    node_id,
                    node.title,
                    hint=self._suggestions.did_you_mean(node.class_type, self._types),
                )
            )
            return None
        title = node.title or kind.name
        given = node.inputs
        before = len(self.problems)

        def report(code: str, message: str, name: str | None, hint: str | None = None) -> None:
            self.problems.append(Problem(code, message, node_id, title, name, hint))

        declared: Mapping[str, Input] = kind.inputs
        literals: dict[str, Any] = dict(kind.defaults)
        lazy, every = kind.lazy, kind.every
        if kind.is_dynamic:
            declared = {item.name: item for item in flatten(kind.inputs.values(), given)}
            if kind.extra is not None:
                declared |= {name: replace(kind.extra, name=name) for name in given if name not in declared}
            literals = {
                name: item.default
                for name, item in declared.items()
                if not item.required and item.default is not OPTIONAL and item.grow is None and item.rows is None
            }
            lazy = frozenset(name for name, item in declared.items() if item.lazy)
            every = frozenset(name for name, item in declared.items() if item.every)
        if kind.hidden:  # a workflow may give them, too
            also = [name for name in kind.hidden if name in given and name not in declared]
            declared = {**declared, **{name: Input(name, "*", OPTIONAL) for name in also}} if also else declared
        links: dict[str, Link] = {}
        item: Input | None
        for name, value in given.items():
            item = declared.get(name)
            if item is None:
                self._unknown(name, value, given, kind, declared, node_id, title)
                continue
            link = as_link(value)
            if link is not None:
                literals.pop(name, None)
                if item.variants is not None:
                    report(
                        "not_a_choice",
                        "it decides which inputs there are, so it is chosen, not linked",
                        name,
                        "choose one of: " + ", ".join(item.variants.options),
                    )
                elif self._exists(link, item, report):
                    links[name] = link
                continue
            if item.type not in WIDGETS and is_reference(value):
                found = self._value(value, item, report)
                if found is not None:
                    literals[name] = found
                continue
            if self._expanded and (item.type not in WIDGETS or type(value) not in _JSON):
                literals[name] = thawed(value) if type(value) in FROZEN else value
                continue
            if name in kind.unchecked:  # the node type judges itself
                free = item.free or item.type == "COMBO" or item.type not in LITERAL_TYPES
                item = replace(item, range=None, free=free)
            ok, literal = canonical_literal(item, value, self._choices, report)
            if ok:
                literals[name] = literal
        wanted = kind.wanted if not self._expanded else ()
        for name, item in declared.items():
            if (item.required or name in wanted) and name not in given:
                what = "" if item.has_widget else "a link to "
                hint = None if item.required else f"an editor begins with {show(item.default)}"
                report("missing_input", f"nothing is given; it needs {what}{with_article(item.type)}", name, hint)
        if kind.check is not None and len(self.problems) == before:
            self._ask(kind, literals, links, report)
        return Bound(node_id, kind, literals, links, declared, lazy, every)

    def _value(self, reference: str, item: Input, report: Report) -> Any:
        """The Python value that an input names, as its wire carries it."""
        if reference not in self._settings.values:
            report("no_value", NO_VALUE, item.name, "run it from the script that made it, or set the input anew")
            return None
        try:
            return from_python(item.type, self._settings.values[reference])
        except (TypeError, ValueError) as error:
            report("not_a_value", str(error), item.name)
            return None

    def _ask(self, kind: NodeType, literals: dict[str, Any], links: dict[str, Link], report: Report) -> None:
        """Let the node type check itself."""
        assert kind.check is not None
        given = {}
        for name, link in links.items():
            source = self._types.get(self._workflow[link.node].class_type)
            given[name] = source.outputs[link.slot].type if source is not None else "*"
        try:
            for where, message in kind.check(self._settings, literals, given):
                report("not_accepted", message, where)
        except GraphFlowError as error:  # what was found wrong elsewhere keeps its code and its hint
            for problem in error.problems:
                report(problem.code, problem.message, problem.input, problem.hint)
        except (Exception, SystemExit) as error:
            report("check_failed", f"the node could not check its inputs: {type(error).__name__}: {error}", None)

    def _unknown(
        self,
        name: str,
        value: Any,
        given: Mapping[str, Any],
        kind: NodeType,
        declared: Mapping[str, Input],
        node_id: str,
        title: str,
    ) -> None:
        """ComfyUI leaves inputs of older versions, and what its widgets show, in its files; such files must run, so an
        undeclared input is passed over with a warning. It is an error where the author must have meant something else:
        a name that is nearly that of an input which is not given, or a link to a node that is not there.
        """
        absent = [each for each in declared if each not in given]
        link = as_link(value)
        if link is not None and link.node not in self._workflow:
            is_near = self._suggestions.is_near(name, absent)
            hint = self._suggestions.did_you_mean(name, absent) if is_near else "remove it"
            self.problems.append(
                Problem(
                    "missing_node",
                    f"it links to node {link.node!r}, which does not exist, and {kind.name} has no such input",
                    node_id,
                    title,
                    name,
                    hint,
                )
            )
            return
        if self._suggestions.is_near(name, absent):
            self.problems.append(
                Problem(
                    "unknown_input",
                    f"{kind.name} has no such input",
                    node_id,
                    title,
                    name,
                    self._suggestions.did_you_mean(name, absent),
                )
            )
            return
        self.warnings.append(
            Problem(
                "unused_input",
                f"{kind.name} has no such input",
                node_id,
                title,
                name,
                self._suggestions.did_you_mean(name, declared),
            )
        )

    def _exists(self, link: Link, item: Input, report: Report) -> bool:
        source = self._workflow.get(link.node)
        if source is None:
            report(
                "missing_node",
                f"it links to node {link.node!r}, which does not exist",
                item.name,
                self._suggestions.did_you_mean(link.node, self._workflow),
            )
            return False
        if source.class_type in NOTES:
            report(
                "missing_output",
                f"it links to node {link.node}, which is a {source.class_type} and has no outputs",
                item.name,
                "link it to a node that gives something, or remove the link",
            )
            return False
        kind = self._types.get(source.class_type)
        if kind is None:
            return True
        if not 0 <= link.slot < len(kind.outputs):
            outputs = ", ".join(f"{i} ({out.name})" for i, out in enumerate(kind.outputs)) or "none"
            report(
                "missing_output",
                f"it links to output {link.slot} of node {link.node} ({kind.name}), which has no such output",
                item.name,
                f"its outputs: {outputs}",
            )
            return False
        return True

    def check_types(self, nodes: Mapping[str, Bound], order: Mapping[str, Bound]) -> None:
        """Whether each link of these nodes, given in topological order as far as they have one, carries what its input
        takes; an output that matches an input has that input's type. `order` holds them and all they link to."""
        matched: dict[tuple[str, str], str] = {}

        def type_of(link: Link) -> str:
            output = order[link.node].type.outputs[link.slot]
            if output.match is None:
                return output.type
            return matched.get((link.node, output.match.name), output.type)

        for node_id, item in nodes.items():
            for name, link in item.links.items():
                if link.node not in order:
                    continue
                wanted, given = item.inputs[name], type_of(link)
                if not compatible(given, wanted.type) and not item.type.checks_links:
                    kind = order[link.node].type
                    title = self._workflow[node_id].title or item.type.name
                    self.problems.append(
                        Problem(
                            "type_mismatch",
                            f"it needs {wanted.type}, but output {link.slot} of node {link.node} "
                            f"({kind.name}) is {given}",
                            node_id,
                            title,
                            name,
                        )
                    )
                if wanted.match is not None and given != "*":
                    known = matched.setdefault((node_id, wanted.match.name), given)
                    if not compatible(known, given) and not compatible(given, known):
                        title = self._workflow[node_id].title or item.type.name
                        self.problems.append(
                            Problem(
                                "type_mismatch",
                                f"it is {given}, but must be {known} as the other inputs that go with it",
                                node_id,
                                title,
                                name,
                            )
                        )


_JSON = frozenset({str, int, float, bool, list, dict, *FROZEN, type(None)})


def topological(bound: Mapping[str, Bound]) -> dict[str, Bound]:
    """The nodes with sources before users; nodes on or behind a cycle are left out."""
    return {key: bound[key] for key in walks.topological(_sources(bound))}


def _sources(bound: Mapping[str, Bound]) -> dict[str, list[str]]:
    return {key: [link.node for link in item.links.values()] for key, item in bound.items()}


def _cycles(rest: Mapping[str, Bound], workflow: Workflow) -> list[Problem]:
    """One problem for each knot of nodes that wait for each other, with a path shown."""
    sources = _sources(rest)
    place = {key: index for index, key in enumerate(rest)}
    problems = []
    firsts = {min(knot, key=place.__getitem__): knot for knot in walks.cyclic(sources)}
    for first, knot in sorted(firsts.items(), key=lambda item: place[item[0]]):
        path = walks.cycle_in(knot, sources, first)
        shown = path if len(path) <= 12 else path[:6] + ["..."] + path[-5:]
        text = " -> ".join(shown + path[:1])
        problems.append(
            Problem(
                "cycle",
                f"these nodes wait for each other: {text}",
                path[0],
                workflow[path[0]].title,
                hint="remove one of these links",
            )
        )
    return problems
