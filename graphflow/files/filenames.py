"""Names that files and folders may have: one rule for what nodes write and for what a server opens."""

from __future__ import annotations

import os
import re
import unicodedata

__all__ = ["LONGEST", "mended", "why_not"]

LONGEST = 255
"""Bytes of one part of a path, as most file systems have it."""
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\/:*?"<>|\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]')


_LEGAL_HERE = frozenset('*?"<>|') if os.name == "posix" else frozenset[str]()
"""Windows forbids them. A colon leads into another drive there, and names of devices open these: never taken."""


def why_not(part: str, own: bool = False) -> str | None:
    """Why this may not be a part of a path on every system; None if it may. `own`: the file is its user's and stays on
    this system, so its name may begin with a dot and have signs that are legal here."""
    if part in ("", ".", ".."):
        return "the name is absolute, or has an empty part, '.' or '..' in it"
    if part.startswith(".") and not own:
        return "a part begins with a dot"
    if any(found not in _LEGAL_HERE or not own for found in _FORBIDDEN.findall(part)):
        return 'the name has a control character, half of a character, or one of \\ / : * ? " < > | in it'
    if part[-1] in ". " or part[0] == " ":
        return "a part begins with a space, or ends with a dot or a space"
    if _DEVICE.fullmatch(part):
        return f"{part!r} is the name of a device"
    size = len(part.encode("utf-8"))
    if size > LONGEST:
        return f"a part is {size} bytes long; at most {LONGEST} are taken"
    if unicodedata.normalize("NFC", part) != part:
        return "the name is not in Unicode's composed form (NFC)"
    return None


def mended(part: str) -> str:
    """The nearest text that may be a part of a path, however long: `_` stands for what may not."""
    part = unicodedata.normalize("NFC", _FORBIDDEN.sub("_", part)).strip(" ").rstrip(". ")
    if part == "" or part.startswith(".") or _DEVICE.fullmatch(part):
        return "_" + part.lstrip(".")
    return part
