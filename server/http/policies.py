"""The policy of a route: who may do what. Every route states one; the gate refuses a route without one, and a test
fails.

A request with an `Origin` or a `Sec-Fetch-Site` comes from a browser, and a page of another site may have made it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EDITOR_WRITE", "OPEN", "OPEN_WRITE", "PAGE", "READ", "UPLOAD", "WRITE", "Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    token: bool = True
    """It needs the token, where the server has one."""
    writes: bool = False
    """It changes something: never by GET, and a browser states the content type below."""
    content: tuple[str, ...] = ()
    """The content types of a browser's body, where `writes`; none of these is sent by a plain form, but `UPLOAD`'s."""
    navigation: bool = False
    """Another site may link to it: a page that shows nothing but itself."""


OPEN = Policy(token=False)
PAGE = Policy(navigation=True)
READ = Policy()
WRITE = Policy(writes=True, content=("application/json",))
OPEN_WRITE = Policy(token=False, writes=True, content=("application/json",))
EDITOR_WRITE = Policy(writes=True, content=("application/json", "text/plain", "application/octet-stream"))
"""The editor states no content type here, so its browser sends text/plain; only a page of our own origin gets this
far."""
UPLOAD = Policy(writes=True, content=("multipart/form-data",))
