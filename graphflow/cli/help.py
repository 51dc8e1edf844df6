"""`graphflow help [COMMAND]`"""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "topic", nargs="?", metavar="COMMAND", help="the command to explain; without it, all are listed"
    )


def run(options: argparse.Namespace) -> int:
    from . import main

    try:
        return main([options.topic, "--help"] if options.topic else ["--help"])
    except SystemExit as ended:
        return int(ended.code or 0)
