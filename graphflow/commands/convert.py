"""`graphflow convert FILE [--to api|ui] [-o FILE]`"""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path
from typing import Any

from ..formats.editor import from_prompt, is_editor_format, to_prompt
from ..formats.object_info import NodeInfos, RegistryInfos, read_all
from ..problem import InvalidWorkflow, Problem
from ..registry import Registry
from ..settings import Settings
from ..workflow import Workflow, parse
from .common import DONE, WRONG, complain, read_workflow

__all__ = ["configure", "run"]

TIMEOUT = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a JSON file, a picture that carries a workflow, or - for stdin")
    parser.add_argument("--to", choices=["api", "ui"], default="api", help="default: api; ui opens in the editor")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--object-info", metavar="FILE|URL", help="the node types: a saved /object_info, or a running "
                        "server; default: those installed here")  # fmt: skip
    parser.add_argument("--nodes", action="append", default=[], type=Path, metavar="DIR", help="a folder of node files")
    parser.add_argument("--prefer-named", action="store_true", help="read the values of widgets by name where the file "
                        "has names; the editor goes by place")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    infos = _infos(options)
    found = read_workflow(options.file)
    warnings: tuple[Problem, ...] = ()
    if options.to == "ui" and found.editor is not None:
        converted = found.editor  # of a picture: with the layout that its user gave it
    elif options.to == "ui":
        written = from_prompt(Workflow.from_json(found.data), infos)
        converted, warnings = written.data, written.warnings
    elif is_editor_format(found.data):
        result = to_prompt(found.data, infos, prefer_named=options.prefer_named)
        if result.problems:
            complain(result.problems)
            return WRONG
        converted, warnings = result.prompt, result.warnings
    else:
        converted = Workflow.from_json(found.data).to_json()
    complain(warnings, "warning")
    text = json.dumps(converted, indent=2, ensure_ascii=False)
    if options.output is None:
        print(text)
    else:
        options.output.write_text(text + "\n", encoding="utf-8")
    return DONE


def _infos(options: argparse.Namespace) -> NodeInfos:
    where = options.object_info
    if where is None:
        registry = Registry.installed(options.nodes)
        complain(registry.problems, "warning")
        return RegistryInfos(registry, Settings())
    data = parse(_fetch(where) if where.startswith(("http://", "https://")) else _read(Path(where)))
    infos = read_all(data) if isinstance(data, dict) else {}
    if not infos:
        raise InvalidWorkflow([Problem("no_object_info", f"{where} holds no descriptions of node types",
                                       hint="save what a server answers to GET /object_info")])  # fmt: skip
    return infos


def _fetch(address: str) -> str:
    address = address.rstrip("/")
    if not address.endswith("/object_info"):
        address += "/object_info"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
            return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidWorkflow([Problem("no_server", f"cannot read {address}: {error}")]) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        said: Any = getattr(error, "strerror", None) or error
        raise InvalidWorkflow([Problem("no_file", f"cannot read {path}: {said}")]) from None
