"""The many things that a node reads outside: their digests as one, and in words which of them changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from hashlib import blake2b
from typing import Any

from ..values.canonical import canonical

__all__ = ["Reads", "as_outside", "changes", "digest_of", "shortened"]

Reads = Mapping[str, Mapping[str, str]]
"""Name of a thing -> name of a part -> its digest; the part "" is the thing itself: `{"cat.png": {"": "5f0c",
"caption": "90ab"}}`."""


def as_outside(reads: Callable[..., Reads]) -> Callable[..., str]:
    """The `outside` of a node type with these `reads`: one digest of all of them. It asks about the same inputs."""

    @wraps(reads)
    def outside(*arguments: Any, **literals: Any) -> str:
        return digest_of(reads(*arguments, **literals))

    return outside


def digest_of(reads: Reads) -> str:
    """One digest of all that is read."""
    found = {name: dict(parts) for name, parts in reads.items()}
    return blake2b(canonical(found), digest_size=16, person=b"reads").hexdigest()


def shortened(reads: Reads) -> Reads:
    """With digests of 64 bits, which are enough to name what changed."""
    return {name: {part: digest[:16] for part, digest in parts.items()} for name, parts in reads.items()}


def changes(before: Reads, now: Reads) -> Iterator[str]:
    """The differences in words, those of one kind together: `the captions of cat.png and 2 others changed`."""
    came = [name for name in now if name not in before]
    if came:
        yield f"{_named(came)} {'is' if len(came) == 1 else 'are'} new"
    gone = [name for name in before if name not in now]
    if gone:
        yield f"{_named(gone)} {'is' if len(gone) == 1 else 'are'} gone"
    changed: dict[str, list[str]] = {}
    for name in now.keys() & before.keys():
        for part in now[name].keys() | before[name].keys():
            if now[name].get(part) != before[name].get(part):
                changed.setdefault(part, []).append(name)
    for part, names in sorted(changed.items()):
        what = f"the {part}{'s' if len(names) > 1 else ''} of " if part else ""
        yield f"{what}{_named(sorted(names))} changed"


def _named(names: list[str]) -> str:
    if len(names) < 3:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} others"
