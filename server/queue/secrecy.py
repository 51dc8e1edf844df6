"""The parts of a submission that are stored and shown nowhere: keys of paid services, tokens, passwords."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

__all__ = ["without_secrets"]

HINT = re.compile("auth|bearer|cookie|cred|jwt|key|pass|pwd|secret|session|token", re.IGNORECASE)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""The words of `api_key`, `api-key`, `apiKey`, `APIKey`."""
SECRETS = frozenset(
    [
        "apikey",
        "apikeys",
        "auth",
        "authorization",
        "bearer",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "jwt",
        "passphrase",
        "passwd",
        "password",
        "passwords",
        "pwd",
        "secret",
        "secrets",
        "session",
        "sessions",
        "token",
    ]
)
ENDS = ("apikey", "cookie", "credentials", "passphrase", "passwd", "password", "pwd", "secret", "sessionid", "token")
"""Ends of words that are written without a break: `authtoken`, `userpassword`."""


def without_secrets(value: Any) -> Any:
    """The value without items that are named like secrets, at any depth; numbers and booleans stay (`max_token:
    75`)."""
    if isinstance(value, dict):
        return {
            name: without_secrets(item)
            for name, item in value.items()
            if not (isinstance(item, (str, dict, list)) and _names_a_secret(str(name)))
        }
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value


def _names_a_secret(name: str) -> bool:
    """A key is one only with a word before or behind it: `key` alone is what many a node calls an input."""
    if not HINT.search(name):
        return False
    words = [word.lower() for word in WORD.findall(name)]
    return (
        not SECRETS.isdisjoint(words)
        or any(word.endswith(ENDS) for word in words)
        or (words[-1:] in (["key"], ["keys"]) and len(words) > 1)
        or _has_api_key(words)
    )


def _has_api_key(words: list[str]) -> bool:
    return any(pair in (("api", "key"), ("api", "keys")) for pair in pairwise(words))
