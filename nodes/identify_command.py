"""`graphflow identify FILE...`: what model files are, from their headers alone."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphflow import GraphFlowError, Problem
from graphflow.spi import DONE, FAILED, complain

from .families import recognise
from .families.known import identify
from .families.whole import unfit_parts
from .files.diffusers_folder import is_diffusers
from .files.folders import models_below
from .files.header import read_header
from .files.known.identity import Identity, PartSeen

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["configure", "run"]

WIDE = 110
"""Columns where the text goes into a file or a pipe."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "What model files are: family, parts, number format, notes, what is missing to run them, and the folder they "
        "belong into. Only headers are read, so it takes no longer for large files."
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="a model file, a diffusers folder, or a folder with models in it",
    )
    parser.add_argument("--model", type=Path, metavar="MODEL", help="how much of each LoRA fits this checkpoint")
    parser.add_argument(
        "--weights",
        action="store_true",
        help="count the weights that are missing or do not fit; builds the empty networks, which takes some seconds",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if a file cannot be read, no table knows it, or weights are found to be missing."""
    seen: list[tuple[Path, Identity]] = []
    problems: list[Problem] = []
    for path in _models(options.files):
        try:
            header = read_header(path)
            found = identify(header)
            if options.model is not None and found.kind == "LoRA":
                found = replace(found, details={**found.details, "fits": _fit(path, options.model)})
            seen.append((path, found))
            if options.weights:
                problems += unfit_parts(header)
        except GraphFlowError as error:
            problems += error.problems
    if options.json:
        print(json.dumps([{"file": str(path), **found.to_json()} for path, found in seen], indent=2))
    else:
        _print(seen)
    complain(problems)
    return FAILED if problems or any(found.kind == "unknown" for _, found in seen) else DONE


def _fit(path: Path, model: Path) -> str:
    """`260 of 264 modules of model.safetensors`, and some of those that do not. Raises a Problem where it is not a
    model."""
    from .patches.lora_keys import fit

    header = read_header(model)
    recognised = recognise(header)
    if recognised is None:
        raise GraphFlowError(
            [
                Problem(
                    "unknown_model",
                    f"{model.name} holds no model of a family that can run",
                    hint="look what it is: graphflow identify FILE",
                )
            ]
        )
    family, seen = recognised
    parts = tuple(part for part in seen.parts if part == "denoiser" or part.startswith("text."))
    found = fit(str(path), f"{path.stat().st_size} {path.stat().st_mtime_ns}", family, seen.config, parts)
    text = f"{len(found.matches)} of {found.total} modules of {model.name}"
    others = [f"{name} is not in it" for name in found.unknown] + list(found.misshapen)
    return "; ".join([text, *others[:3]]) + (f"; and {len(others) - 3} more" if len(others) > 3 else "")


def _models(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir() and not is_diffusers(path):
            yield from sorted(models_below(path))
        else:
            yield path


def _print(seen: Sequence[tuple[Path, Identity]]) -> None:
    """One page for each file; a list of one line each where there are many."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    with console.capture() as text:
        if len(seen) > MANY:
            console.print(_list(seen))
        else:
            for number, (path, found) in enumerate(seen):
                console.print(*([""] if number else []), _page(path, found), sep="\n")
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


MANY = 4
"""Files up to which each has its page."""


def _page(path: Path, found: Identity) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), title_justify="left", title_style="bold")
    table.title = Text(_shown(path.name))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text, style in _lines(found):
        table.add_row(Text(label), Text(_shown(text), style=style))
    return table


def _lines(found: Identity) -> Iterator[tuple[str, str, str]]:
    """Label, text and style of the lines of a page."""
    yield "what", found.words, "bold"
    if found.kind == "unknown":
        yield "", "no family of models, adapter or encoder that is known has tensors of these names", "yellow"
    parts = found.parts if len(found.parts) > 1 else ()
    wide = [max((len(text) for text in texts), default=0) for texts in zip(*map(_cells, parts), strict=True)]
    for number, part in enumerate(parts):
        cells = "   ".join(text.ljust(width) for text, width in zip(_cells(part), wide, strict=True))
        yield "parts" if not number else "", cells.rstrip(), ""
    for label, text in found.details.items():
        yield label, text, ""
    if found.parameters:
        yield "numbers", f"{_count(found.parameters)} parameters in {found.number_format}", ""
    yield "size", f"{_size(found.bytes)} ({found.container})", ""
    for label, text in found.notes.items():
        yield label, text, ""
    for number, text in enumerate(found.missing):
        yield "needs" if not number else "", text, "yellow"
    if found.folder:
        yield "folder", f"models/{found.folder}", ""
    if _depends(found):
        yield "runs", "where its modules fit; --model MODEL counts those that do", "yellow"
    elif found.kind != "unknown":
        yield (
            "runs",
            "yes" if found.supported else "no: it is recognised, but not supported yet",
            "green" if found.supported else "yellow",
        )


def _cells(part: PartSeen) -> tuple[str, ...]:
    return part.name, part.title, _count(part.parameters)


def _list(seen: Sequence[tuple[Path, Identity]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    fits = ("fits",) if any("fits" in found.details for _, found in seen) else ()
    for title in ("file", "what", "numbers", "size", *fits, "runs"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for path, found in seen:
        mark = Text("yes", "green") if found.supported else Text("?" if _depends(found) else "no", "yellow")
        counted = [found.details.get("fits", "").partition(" modules")[0]] if fits else []
        words = (str(path), found.words, found.number_format, _size(found.bytes), *counted)
        table.add_row(*(Text(_shown(text)) for text in words), mark)
    return table


def _depends(found: Identity) -> bool:
    """A LoRA whose names do not show the family: it runs where its modules fit."""
    return found.kind == "LoRA" and not found.family


def _shown(text: str) -> str:
    """Text of a file as a terminal may have it: what could command it is left out."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _count(number: int) -> str:
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,}"


def _size(number: int) -> str:
    for size, word in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number} bytes"
