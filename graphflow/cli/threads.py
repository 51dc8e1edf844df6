"""How many threads compute, and how they wait; settled before torch is imported, as OpenMP reads its variables then."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import MutableMapping

__all__ = ["parse_threads", "prepare_threads"]

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""The variables by which a user may have decided how threads wait."""
MOST = 1024


def prepare_threads(count: int | None = None, environment: MutableMapping[str, str] | None = None) -> None:
    """Set OpenMP's variables for this process and those that it starts. No effect once torch is imported.

    Threads sleep while they wait for each other. By default they spin: on a machine whose cores are busy the one that
    is waited for then gets no core, and a pass of 9.6 ms takes 1294 ms. A user who has set any of `WAITING` is left
    alone.

    count: threads of one operation; None: `$GRAPHFLOW_THREADS`, and without it whatever OMP_NUM_THREADS or torch
    decides.
    Raises ArgumentTypeError where the variable is not a number.
    """
    variables = os.environ if environment is None else environment
    if not any(name in variables for name in WAITING):
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
        variables["GOMP_SPINCOUNT"] = "0"
    stated = variables.get("GRAPHFLOW_THREADS")
    if count is None and stated:
        count = parse_threads(stated)
    if count is not None:
        for name in ("GRAPHFLOW_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            variables[name] = str(count)


def parse_threads(text: str) -> int:
    """A whole number of threads, from 1 on."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= MOST:
        raise ArgumentTypeError(f"{text!r} is not a number of threads; write a whole number from 1 to {MOST}")
    return int(text)
