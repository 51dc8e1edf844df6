"""`graphflow sweep FILE --vary KSampler.cfg=3,5,7 --vary KSampler.seed=0:4 --grid grid.png`"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Any

from ..document.workflow import Place, Workflow
from ..engine import Engine
from ..problem import Cancelled, InvalidWorkflow, Problem
from ..script.templates import template_texts
from ..sweeps import Results, Sweep, VariantResult, sweep
from ..sweeps.display import SweepDisplay
from .changes import add_run_options, prepared, refuse_unwritable
from .common import (
    CANCELLED,
    DONE,
    FAILED,
    complain,
    engine,
    interrupt_cancels,
    read_workflow,
    shown,
)

__all__ = ["configure", "run"]

SMALLEST_CELL, LARGEST_CELL = 16, 4096
"""Pixels."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?")
_PATTERN = re.compile(r"[*?]")
MOST_VALUES = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vary",
        action=_Axis,
        default=[],
        dest="axes",
        metavar="NODE.INPUT=VALUES",
        nargs=1,
        help="an axis: 3,5,7 or 0:4 (0 to 3) or 0:1:0.25 or a JSON list; a pattern such as *.png takes the files of a "
        "choice; @FILE:NODE.INPUT takes the lines of a file",
    )
    parser.add_argument(
        "--zip",
        action=_Axis,
        default=[],
        dest="axes",
        metavar="NODE.INPUT=VALUES",
        nargs="+",
        help="several inputs that move together, as one axis",
    )
    parser.add_argument(
        "--prompts",
        action=_Axis,
        default=[],
        dest="axes",
        metavar="NODE.INPUT=TEMPLATE",
        nargs=1,
        help="all prompts of a template such as 'a {red|green} apple in __place__'",
    )
    parser.add_argument("--wildcards", type=Path, metavar="DIR", help="wildcard files; default: INPUT_DIR/wildcards")
    parser.add_argument("--grid", type=Path, metavar="FILE", help="all images as one, labelled")
    parser.add_argument("--rows", metavar="NODE.INPUT", help="what changes from row to row in the grid")
    parser.add_argument("--cols", metavar="NODE.INPUT", help="what changes from column to column in the grid")
    parser.add_argument("--cell", type=_cell, default=256, metavar="PIXELS", help="size of an image in the grid (256)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a table of values, images and errors")
    parser.add_argument("--html", type=Path, metavar="FILE", help="one page of all images, with filter and sort")
    parser.add_argument(
        "--exact",
        action="store_true",
        help="share no forward pass: each image is the same to the bit as that of the variant run alone",
    )
    parser.add_argument("--dry-run", action="store_true", help="show how much would run, and what could not")
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    cancel = Flag()
    try:
        with interrupt_cancels(cancel):
            return _run(options, cancel)
    except Cancelled:
        print("cancelled; what is done is kept: the same command goes on from there", file=sys.stderr)
        return CANCELLED


def _run(options: argparse.Namespace, cancel: Flag) -> int:
    for path in (options.grid, options.csv, options.html):
        if path is not None and path.is_absolute() and not path.parent.is_dir():
            raise _wrong("no_folder", f"there is no folder {str(path.parent)!r} for {path.name}", "make it first")
    with engine(options) as runner:
        workflow = prepared(runner, read_workflow(options.file), options.changes)
        if not options.axes:
            raise _wrong("nothing_varies", "nothing varies", "write --vary KSampler.seed=0:4 --vary KSampler.cfg=3,5,7")
        wildcards = options.wildcards or options.input_dir / "wildcards"
        choices = partial(_choices, runner, workflow)
        axes = (_axis(workflow, option, specs, wildcards, choices) for option, specs in options.axes)
        found = sweep(workflow, dict(axes))
        rows, cols = (_place(found, name) for name in (options.rows, options.cols))
        if options.dry_run:
            return _say_plan(found, found.plan(runner))
        refuse_unwritable(runner, workflow)
        items: list[VariantResult] = []
        display = SweepDisplay(found.variants, quiet=options.quiet)

        def keep(item: VariantResult) -> None:
            items.append(item)
            display.result(item)

        try:
            with display:
                results = found.run(
                    runner,
                    on_result=keep,
                    on_event=display.event,
                    cancel=cancel,
                    refresh=options.refresh,
                    exact=options.exact,
                )
        except Cancelled:
            _write(options, Results(found.variants, sorted(items, key=lambda item: item.index)), rows, cols)
            raise
        finally:
            complain(runner.cache.problems, "warning")
    _write(options, results, rows, cols)
    is_grouped = sys.stdout.isatty() and not options.quiet  # a pipe gets paths, one a line
    for item in results:
        if item.paths and is_grouped:
            print(", ".join(f"{found.variants.names[place]}={value}" for place, value in item.values.items()))
        for path in item.paths:
            print(f"    {shown(path)}" if is_grouped else shown(path))
    for item in results.failed:
        values = ", ".join(f"{found.variants.names[place]}={value!r}" for place, value in item.values.items())
        complain(item.problems, f"variant {item.index} ({values})")
    return FAILED if results.failed else DONE


def _write(options: argparse.Namespace, results: Results, rows: Place | None, cols: Place | None) -> None:
    """Write the files that were asked for, of the variants that are done: after Ctrl-C, too. Folders are made below the
    working folder alone."""
    if not len(results):
        return
    for path in (options.grid, options.csv, options.html):
        if path is not None and not path.is_absolute():
            path.parent.mkdir(parents=True, exist_ok=True)
    if options.csv is not None:
        results.to_csv(options.csv)
    if options.grid is not None:
        results.grid(rows, cols, cell=options.cell).save(options.grid)
    if options.html is not None:
        results.html(options.html, title=f"Sweep of {options.file}")


def _cell(text: str) -> int:
    if not text.isdecimal() or not SMALLEST_CELL <= int(text) <= LARGEST_CELL:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels from {SMALLEST_CELL} to {LARGEST_CELL}")
    return int(text)


def _say_plan(found: Sweep, merged: Any) -> int:
    for index, problems in merged.invalid.items():
        complain(problems, f"variant {index}")
    some = next(iter(merged.wanted.values()), None)
    apart = len(merged.wanted) * len(merged.part(some)[0]) if some is not None else 0
    print(
        f"{len(found)} variants, {len(merged.invalid)} of them cannot run; {len(merged.nodes)} nodes to compute, "
        f"{apart} if each ran by itself"
    )
    return FAILED if merged.invalid else DONE


class _Axis(argparse.Action):
    """Keeps axes in the order in which they are given, whichever option gave them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.axes = [*namespace.axes, (option_string, values)]


def _axis(
    workflow: Workflow, option: str, specs: list[str], wildcards: Path, choices: Callable[[Place], list[str]]
) -> tuple[Any, list[Any]]:
    """(place or places, values) as `gf.sweep` takes them."""
    pairs = [
        _template(spec, workflow, wildcards) if option == "--prompts" else _spec(spec, workflow, choices)
        for spec in specs
    ]
    if len(pairs) == 1:
        return pairs[0]
    lengths = {len(values) for _, values in pairs}
    if len(lengths) > 1:
        counts = ", ".join(f"{place} has {len(values)}" for place, values in pairs)
        raise _wrong("uneven", f"--zip needs as many values for each input: {counts}")
    return tuple(place for place, _ in pairs), list(zip(*(values for _, values in pairs), strict=True))


def _template(spec: str, workflow: Workflow, wildcards: Path) -> tuple[Place, list[Any]]:
    where, equals, template = spec.partition("=")
    if not equals:
        raise _wrong("bad_axis", f"--prompts {spec!r} has no '='", "write --prompts 'NODE.INPUT=a {red|green} apple'")
    return workflow.place(where), list(template_texts(template, wildcards=wildcards))


def _choices(runner: Engine, workflow: Workflow, place: Place) -> list[str]:
    """The texts that an input is chosen from, in their order; none where it is not a choice."""
    kind = runner.registry.get(workflow[place.node].class_type)
    item = kind.inputs.get(place.input) if kind is not None else None
    if item is None or item.choice is None:
        return []
    return [name for name in item.choice.names(runner.settings) if isinstance(name, str)]


def _spec(spec: str, workflow: Workflow, choices: Callable[[Place], list[str]]) -> tuple[Place, list[Any]]:
    if spec.startswith("@"):
        name, colon, where = spec[1:].rpartition(":")
        if not colon:
            raise _wrong("bad_axis", f"{spec!r} does not name an input", "write @FILE:NODE.INPUT")
        try:
            text = Path(name).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise _wrong("no_file", f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
        return workflow.place(where), [line.strip() for line in text.splitlines() if line.strip()]
    where, equals, text = spec.partition("=")
    if not equals:
        raise _wrong("bad_axis", f"{spec!r} has no '='", "write NODE.INPUT=VALUES")
    place = workflow.place(where)
    if _PATTERN.search(text) and (names := choices(place)):
        found = [name for name in names if fnmatchcase(name, text)]
        if not found:
            raise _wrong(
                "no_match", f"none of the {len(names)} choices of {where} matches {text!r}", "look at its files"
            )
        return place, found
    return place, list(_values(text, isinstance(workflow[place.node].inputs.get(place.input), str)))


def _values(text: str, is_text: bool) -> Iterable[Any]:
    """`3,5,7`, `0:4`, `0:1:0.25`, or a JSON list; words stay words where the workflow has a text."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise _wrong("bad_axis", f"{text!r} is not a JSON list: {error}") from None
        return list(found)
    spanned = _RANGE.fullmatch(text)
    if spanned and not is_text:
        return _span(*spanned.groups())
    return [part.strip() if is_text else _value(part.strip()) for part in text.split(",")]


def _span(first: str, last: str, step: str | None) -> list[Any]:
    """From the first up to, not with, the last, as Python counts."""
    whole = not any("." in part for part in (first, last, step or "1"))
    low, high, by = float(first), float(last), float(step or "1")
    if by == 0 or (high - low) / by > MOST_VALUES:
        raise _wrong("bad_axis", f"{first}:{last}:{step} has no end" if by == 0 else f"more than {MOST_VALUES} values")
    if whole:
        return list(range(int(first), int(last), int(step or 1)))
    count = max(0, -int(-round((high - low) / by, 9) // 1))
    return [round(low + i * by, 9) for i in range(count)]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _place(found: Sweep, name: str | None) -> Place | None:
    if name is None:
        return None
    for place, short in found.variants.names.items():
        if short == name:
            return place
    place = found.variants.workflow.place(name)
    if place not in found.variants.names:
        raise _wrong("not_varied", f"{name} does not vary", "what varies: " + ", ".join(found.variants.names.values()))
    return place


def _wrong(code: str, message: str, hint: str | None = None) -> InvalidWorkflow:
    return InvalidWorkflow([Problem(code, message, hint=hint)])
