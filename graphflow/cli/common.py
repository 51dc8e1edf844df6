"""The parts that commands share: folders, the engine, loading a workflow, complaints."""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import Any

from ..cache import Cache, default_folder
from ..document.workflow import Workflow, parse
from ..engine import Engine
from ..files.digests import Digests
from ..files.shipped import shipped_names, shipped_text
from ..formats import read
from ..formats.editor import is_editor_format, to_api
from ..formats.files import WorkflowFile, read_content, read_file
from ..formats.object_info import NodeInfos
from ..problem import InvalidWorkflow, Problem, did_you_mean
from ..registry import Registry
from ..settings import Settings
from .codes import CANCELLED, DONE, FAILED, WRONG, complain
from .threads import parse_threads

__all__ = [
    "CANCELLED",
    "DONE",
    "FAILED",
    "WRONG",
    "add_cache_options",
    "add_device_options",
    "add_folder_options",
    "add_nodes_option",
    "cache_folder",
    "complain",
    "engine",
    "load_workflow",
    "parse_size",
    "read_workflow",
    "settings",
    "shown",
    "to_workflow",
    "well_formed",
]


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    add_nodes_option(parser)
    parser.add_argument("--models", action="append", default=[], type=Path, metavar="DIR", help="a folder of models")
    parser.add_argument("--input-dir", type=Path, default=Path("input"), metavar="DIR", help="default: input")
    short = () if "-o" in parser._option_string_actions else ("-o",)  # `graph -o FILE`
    parser.add_argument(
        *short, "--output-dir", type=Path, default=Path("output"), metavar="DIR", help="default: output"
    )
    parser.add_argument("--no-metadata", action="store_true", help="save files without the workflow in them")
    add_device_options(parser)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what computes")
    group.add_argument(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:1, mps or xpu, or several of one kind as in cuda:0+cuda:1; default: "
        "$GRAPHFLOW_DEVICE or auto",
    )
    group.add_argument(
        "--cfg-split",
        action="store_true",
        default=None,
        help="compute the halves of guidance in passes of their own, at the same time where there are several devices; "
        "the last digits of images differ, and they are cached apart",
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="number format of models; default: $GRAPHFLOW_DTYPE or auto",
    )
    group.add_argument(
        "--compile",
        choices=("off", "auto", "on"),
        help="compile denoisers, which takes minutes once; auto: in the background, when a shape is seen often; "
        "default: $GRAPHFLOW_COMPILE or off",
    )
    group.add_argument(
        "--memory", type=parse_size, metavar="SIZE", help="bytes of the device that models may hold, such as 8GB"
    )
    group.add_argument(
        "--threads",
        type=parse_threads,
        metavar="N",
        help="threads of one operation on the CPU; default: $GRAPHFLOW_THREADS, or what OMP_NUM_THREADS or torch "
        "decides",
    )


def add_nodes_option(parser: argparse.ArgumentParser) -> None:
    usual = Path("custom_nodes")  # as ComfyUI has it
    parser.add_argument(
        "--nodes",
        action="append",
        default=[usual] if usual.is_dir() else [],
        type=Path,
        metavar="DIR",
        help="a folder of node files and packs; custom_nodes/ is one wherever you are",
    )


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="default: $GRAPHFLOW_CACHE or your cache folder")
    parser.add_argument("--cache-size", type=parse_size, default=20 << 30, metavar="SIZE", help="default: 20GB")
    parser.add_argument("--cache-remote", metavar="URL", help="a second level that machines share (any fsspec URL)")
    parser.add_argument("--no-cache", action="store_true", help="neither read nor write a cache")
    parser.add_argument(
        "--checkpoint-every",
        type=parse_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how often a sampler stores where it is, to go on from there; default: 10",
    )


def parse_size(text: str) -> int:
    """`500MB`, `20GB`, `1TB` or a number of bytes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 500MB or 20GB")
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))


def parse_seconds(text: str) -> float:
    """A number of seconds, 0 or more."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; write 0 or more, such as 10")
    return found


def cache_folder(options: argparse.Namespace) -> Path:
    return options.cache_dir or default_folder()


def settings(options: argparse.Namespace, digests: Path | None = None) -> Settings:
    return Settings(
        output_dir=options.output_dir,
        input_dir=options.input_dir,
        temp_dir=options.output_dir / "temp",
        models=(*options.models, *Settings().models),
        digests=Digests(digests),
        metadata=not options.no_metadata,
        checkpoint_every=getattr(options, "checkpoint_every", 10.0),
        **computing(options),
    )


def computing(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the device that the options state; the others come from the environment."""
    stated = {name: getattr(options, name, None) for name in ("device", "dtype", "memory", "compile", "cfg_split")}
    return {name: value for name, value in stated.items() if value is not None}


def engine(options: argparse.Namespace) -> Engine:
    """The engine that the options describe; warns of node packs that could not be loaded."""
    for folder in (*options.nodes, *options.models):
        if not folder.is_dir():
            raise InvalidWorkflow([Problem("no_folder", f"there is no folder {str(folder)!r}")])
    registry = Registry.installed(options.nodes)
    complain(registry.problems, "warning")
    if not hasattr(options, "no_cache"):
        return Engine(registry, settings(options))
    if options.no_cache:
        return Engine(registry, settings(options), Cache(memory=0))
    folder = cache_folder(options)
    cache = Cache(folder, size=options.cache_size, remote=options.cache_remote, warn=shown_at_the_end)
    return Engine(registry, settings(options, folder / "files.sqlite"), cache)


def shown_at_the_end(_: Problem) -> None:
    """Commands print `cache.problems` when they are done, so nothing is to be printed in between."""


def load_workflow(name: str, infos: NodeInfos | None = None) -> Workflow:
    """The workflow that `read_workflow` finds; descriptions of node types are needed for the editor's own format."""
    return to_workflow(read_workflow(name), infos)


def to_workflow(found: WorkflowFile, infos: NodeInfos | None = None) -> Workflow:
    workflow, malformed = well_formed(found, infos)
    if malformed:
        raise InvalidWorkflow(malformed)
    return workflow


def well_formed(found: WorkflowFile, infos: NodeInfos | None) -> tuple[Workflow, list[Problem]]:
    """The nodes of a file that are well-formed, and what is wrong with the others. Raises InvalidWorkflow if it is not
    a workflow."""
    if infos is None or not is_editor_format(found.data):
        return read(found.data)
    converted = to_api(found.data, infos)
    complain(converted.warnings, "warning")
    if converted.problems:
        raise InvalidWorkflow(converted.problems)
    return Workflow.read(converted.api)


def read_workflow(name: str) -> WorkflowFile:
    """A file, `-` for standard input, or the name of a workflow that ships with the node library."""
    if name == "-":
        return read_content(sys.stdin.buffer.read(), "standard input")
    if Path(name).exists() and not Path(name).is_dir():  # a file, or a pipe
        return read_file(name)
    names = shipped_names()
    if name in names:
        return WorkflowFile(parse(shipped_text(name)))
    raise InvalidWorkflow(
        [
            Problem(
                "no_file",
                f"there is no file {name!r}, and no workflow of this name ships",
                hint=did_you_mean(name, names, limit=60),
            )
        ]
    )


def shown(path: Path) -> str:
    """As short as it can be read: relative to where the user is, or whole where it lies elsewhere."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def interrupt_cancels(cancel: Flag) -> Iterator[None]:
    """The first Ctrl-C cancels, which takes effect within a sampler step; the second ends the process where it is."""

    def on_signal(*_: Any) -> None:
        if cancel.is_set():
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h")  # the display has hidden the cursor
            os.write(2, b"\nstopped at once\n")
            os._exit(CANCELLED)
        cancel.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
