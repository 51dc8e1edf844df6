"""The node types for commands that only have to know them: installed here, saved in a file, or of a server."""

from __future__ import annotations

import argparse
import urllib.request
from pathlib import Path

from ..document.workflow import parse
from ..formats.object_info import NodeInfos, RegistryInfos, read_all
from ..problem import InvalidWorkflow, Problem
from ..registry import Registry
from ..settings import Settings
from .common import add_nodes_option, complain

__all__ = ["add_type_options", "node_infos"]

TIMEOUT = 10.0


def add_type_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--object-info",
        metavar="FILE|URL",
        help="the node types: a saved /object_info, or a running server; default: those installed here",
    )
    add_nodes_option(parser)


def node_infos(options: argparse.Namespace) -> NodeInfos:
    where = options.object_info
    if where is None:
        registry = Registry.installed(options.nodes)
        complain(registry.problems, "warning")
        return RegistryInfos(registry, Settings())
    data = parse(_fetch(where) if where.startswith(("http://", "https://")) else _read(Path(where)))
    infos = read_all(data) if isinstance(data, dict) else {}
    if not infos:
        raise InvalidWorkflow(
            [
                Problem(
                    "no_object_info",
                    f"{where} holds no descriptions of node types",
                    hint="save what a server answers to GET /object_info",
                )
            ]
        )
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
        reason = getattr(error, "strerror", None) or error
        raise InvalidWorkflow([Problem("no_file", f"cannot read {path}: {reason}")]) from None
