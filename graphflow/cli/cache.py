"""`graphflow cache stats | verify | prune | clear`"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

from ..cache import Cache, own_folder
from ..problem import GraphFlowError, InvalidWorkflow, Problem
from .common import DONE, FAILED, add_cache_options, cache_folder, complain, parse_size, shown_at_the_end

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", default="stats", choices=["stats", "verify", "prune", "clear"], help="default: stats"
    )
    parser.add_argument("--older-than", type=_age, metavar="AGE", help="prune: what was not used for 7d, 12h ...")
    parser.add_argument("--to-size", type=parse_size, metavar="SIZE", help="prune: until 5GB are left")
    add_cache_options(parser)


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age; write 7d, 12h or 30m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]


def run(options: argparse.Namespace) -> int:
    if options.what == "prune" and options.older_than is None and options.to_size is None:
        problem = Problem("bad_call", "there is no limit to prune to", hint="--older-than 7d, --to-size 5GB, or both")
        raise InvalidWorkflow([problem])
    folder = cache_folder(options)
    if not _is_there(folder):
        print(f"{folder}: there is no cache here")
        return DONE
    cache = Cache(folder, warn=shown_at_the_end)
    try:
        return _run(options, cache)
    finally:
        cache.close()
        complain(cache.problems, "warning")


def _is_there(folder: Path) -> bool:
    """Whether there is a cache in the folder; looking does not create one. Raises InvalidWorkflow (a link to
    nothing)."""
    if os.path.islink(folder) and not os.path.exists(folder):
        raise InvalidWorkflow(
            [
                Problem(
                    "bad_folder",
                    f"{folder} is a link to {os.readlink(folder)}, and there is nothing there",
                    hint="make that folder, or name another one with --cache-dir",
                )
            ]
        )
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InvalidWorkflow(
            [Problem("bad_folder", f"{folder} is not a folder", hint="name the cache folder with --cache-dir")]
        )
    may_be_seen = os.access(folder, os.X_OK) or not os.path.isdir(folder)
    return os.path.isdir(own_folder(folder)) or not may_be_seen


def _unchanged(path: Path) -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "cache_unchanged",
                f"nothing was removed: {path} cannot be changed",
                hint="see to its permissions, and that nobody else keeps it busy",
            )
        ]
    )


def _run(options: argparse.Namespace, cache: Cache) -> int:
    disk = cache.disk
    assert disk is not None
    if options.what in ("prune", "clear") and not disk.can_keep:
        raise _unchanged(disk.path)
    if options.what == "stats":
        _stats(cache)
    elif options.what == "verify":
        found = disk.verify()
        print(
            f"{found.entries} entries and {found.blobs} blobs are good, {found.damaged} were damaged and are removed, "
            f"{found.missing} blobs are not here, {found.leftovers} leftovers of dead processes are removed"
        )
        return FAILED if found.damaged else DONE
    elif options.what == "prune":
        gone = 0
        if options.older_than is not None:
            gone += disk.evict(None, used_before=time.time() - options.older_than)
        if options.to_size is not None:
            gone += disk.evict(options.to_size)
        print(f"{gone} entries removed, {readable(disk.total_bytes())} left")
    else:
        if not disk.clear():
            raise _unchanged(disk.path)
        print(f"{disk.path} is empty")
    return DONE


def _stats(cache: Cache) -> None:
    assert cache.disk is not None
    rows = cache.disk.stats()
    print(f"{cache.disk.path}: {readable(cache.disk.total_bytes())}")
    if rows:
        print(f"\n{'node type':28} {'entries':>8} {'size':>10} {'hits':>8} {'time saved':>11}")
    for row in sorted(rows, key=lambda row: -row.bytes):
        print(f"{row.type:28} {row.entries:8} {readable(row.bytes):>10} {row.hits:8} {row.saved:9.1f} s")
    if rows:
        entries, hits, saved = (sum(getattr(row, name) for row in rows) for name in ("entries", "hits", "saved"))
        print(f"{'all':28} {entries:8} {readable(sum(row.bytes for row in rows)):>10} {hits:8} {saved:9.1f} s")


def readable(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
