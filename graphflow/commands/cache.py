"""`graphflow cache stats | verify | prune | clear`"""

from __future__ import annotations

import argparse
import re
import time

from ..cache import Cache
from ..problem import InvalidWorkflow, Problem
from .common import DONE, FAILED, add_cache_options, cache_folder, complain, parse_size

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["stats", "verify", "prune", "clear"])
    parser.add_argument("--older-than", type=_age, metavar="AGE", help="prune: what was not used for 7d, 12h ...")
    parser.add_argument("--to-size", type=parse_size, metavar="SIZE", help="prune: until 5GB are left")
    add_cache_options(parser)


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 7d, 12h or 30m")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]


def run(options: argparse.Namespace) -> int:
    cache = Cache(cache_folder(options))
    try:
        code = _run(options, cache)
    finally:
        cache.close()
    complain(cache.problems, "warning")
    return code


def _run(options: argparse.Namespace, cache: Cache) -> int:
    disk = cache.disk
    assert disk is not None
    if options.what == "stats":
        _stats(cache)
    elif options.what == "verify":
        found = disk.verify()
        print(f"{found.entries} entries and {found.blobs} blobs are good, {found.damaged} were damaged and are removed, "
              f"{found.missing} blobs are not here, {found.leftovers} leftovers of dead processes are removed")  # fmt: skip
        return FAILED if found.damaged else DONE
    elif options.what == "prune":
        if options.older_than is None and options.to_size is None:
            problem = Problem("bad_call", "nothing says what to prune", hint="--older-than 7d, --to-size 5GB, or both")
            raise InvalidWorkflow([problem])
        gone = 0
        if options.older_than is not None:
            gone += disk.evict(None, used_before=time.time() - options.older_than)
        if options.to_size is not None:
            gone += disk.evict(options.to_size)
        print(f"{gone} entries removed, {readable(disk.total_bytes())} left")
    else:
        disk.clear()
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
