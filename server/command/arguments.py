"""Texts of the command line as values; what could never work is refused with what to write instead."""

from __future__ import annotations

import ipaddress
import re
from argparse import ArgumentTypeError
from urllib.parse import urlsplit

from graphflow import GraphFlowError
from graphflow.spi import parse_size

from ..worker import named_devices
from ..worker.memory import machine_memory

__all__ = [
    "concurrency",
    "concurrency_of_machine",
    "count",
    "devices",
    "devices_or_none",
    "host",
    "ip_address",
    "origin",
    "port",
    "size",
    "webhook_host",
    "worker_memory",
]

NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
LEAST_MEMORY = 1 << 30
MOST_AT_A_TIME, MEMORY_OF_ONE = 4, 2 << 30
"""Prompts of a worker at a time, and the bytes for each: their weights are shared, what they compute is not."""
PORTS = {"http": 80, "https": 443}


def port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port; write a number from 0 to 65535 (0: any free one)")
    return int(text)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,17}", text):
        raise ArgumentTypeError(f"{text!r} is too little or no number; write a whole number from 1 on")
    return int(text)


def size(text: str) -> int:
    """A number of bytes, at least one."""
    found = parse_size(text)
    if found < 1:
        raise ArgumentTypeError(f"{text!r} leaves no room for anything; write a size such as 8MB")
    return found


def worker_memory(text: str) -> int | None:
    """A size of at least `LEAST_MEMORY`, or what `auto` and `none` stand for; None: no limit."""
    if text in ("auto", "none"):
        return machine_memory() if text == "auto" else None
    found = size(text)
    if found < LEAST_MEMORY:
        raise ArgumentTypeError(f"{text!r} is too little for torch alone; write 2GB or more")
    return found


def concurrency(text: str) -> int | None:
    """How many prompts are at work at a time; None: `auto`."""
    return None if text == "auto" else count(text)


def concurrency_of_machine(worker_memory: int | None, workers: int = 1) -> int:
    """The number for `auto`: as many as the memory of each of so many workers holds. Beyond the first, each needs room
    for what it computes; the first one's includes the weights."""
    machine = machine_memory()
    known = [size for size in (worker_memory, machine // workers if machine is not None else None) if size is not None]
    return max(1, min(MOST_AT_A_TIME, min(known) // MEMORY_OF_ONE)) if known else MOST_AT_A_TIME


def devices(text: str) -> str:
    """`auto`, or devices that have a worker process each: `cuda:0,cuda:1`, `cpu*2`."""
    try:
        named_devices(text)
    except GraphFlowError as error:
        raise ArgumentTypeError(f"{error.problems[0].message}; {error.problems[0].hint}") from None
    return text


def devices_or_none(text: str) -> str:
    """As `devices`, or `none`: no worker on this machine."""
    return text if text == "none" else devices(text)


def host(text: str) -> str:
    """The name or address of a host, as browsers write it: lower case, other letters than ASCII in punycode."""
    bare = text.strip("[]") if text.startswith("[") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        name = text.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        name = ""
    if not NAME.fullmatch(name):
        raise ArgumentTypeError(
            f"{text!r} is not a host; write its name alone, such as studio.local, without http:// and port"
        )
    return name


def ip_address(text: str) -> str:
    """An IP address, as it is written shortest."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an IP address; write one such as 10.0.0.1") from None


def webhook_host(text: str) -> str:
    """A host, or HOST:PORT."""
    name, colon, number = text.rpartition(":")
    if colon and ":" not in name and number.isdecimal():
        return f"{host(name)}:{port(number)}"
    return host(text)


def origin(text: str) -> str:
    """The origin of a site, as browsers send it: no default port, no path."""
    try:
        parts = urlsplit(text)
        default = PORTS.get(parts.scheme)
        if (
            default is None
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.query
            or parts.fragment
            or "@" in text
        ):
            raise ValueError(text)
        name = host(parts.hostname)
        name = f"[{name}]" if ":" in name else name
        return f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port not in (None, default) else "")
    except (ValueError, ArgumentTypeError):
        hint = (
            "name each site; '*' would let every page in" if text == "*" else "write one such as https://studio.example"
        )
        raise ArgumentTypeError(f"{text!r} is not an origin; {hint}") from None
