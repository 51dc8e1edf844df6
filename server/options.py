"""The options of a server: a value that is handed down; none can be changed over HTTP."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["RequestLimits", "Options"]


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one request; what is over is refused with a 4xx that names the limit."""

    body: int = 8 << 20
    """Bytes of a JSON body."""
    upload: int = 100 << 20
    """Bytes of an uploaded file."""
    upload_total: int = 20 << 30
    """Bytes of all files in the input folder, above which nothing more is taken."""
    worker_file: int = 64 << 30
    """Bytes of a file that a worker on another machine hands over."""
    bodies: int = 512 << 20
    """Bytes of all bodies that are being read or worked on."""
    depth: int = 64
    """Nested lists and objects of a JSON body."""
    nodes: int = 20_000
    """Nodes of a workflow; also a twentieth of the values that it may hold."""
    image: int = 1 << 26
    """Pixels of an uploaded image, all its frames together."""
    frames: int = 1000
    pixels: int = 1 << 26
    """width x height x batch_size of one node."""
    steps: int = 1000
    """Steps of one sampler node."""
    work: int = 1 << 33
    """Pixels x steps of a prompt: of its largest latent, through all its samplers."""
    waiting: int = 100_000
    """Prompts that may wait."""
    sockets: int = 1000
    """Websockets that are open at a time."""
    connections: int = 4000
    """Connections that are open at a time."""
    waits: int = 1000
    """Requests that wait for news at a time: `?wait=`, long polls and streams of events."""
    share_of_one: float = 0.5
    """The part of connections, websockets and waits that one network address may have."""
    outbox: int = 1 << 20
    """Bytes that may wait for one slow websocket client."""
    stalled_seconds: float = 20.0
    """How long one message to a websocket may take to go out; then nobody reads there."""
    read_seconds: float = 30.0
    """How long a client may take to send its head or a JSON body; a file has this long for each megabyte."""
    wait_seconds: float = 120.0
    """The longest `?wait=` and long poll."""


@dataclass(frozen=True, slots=True)
class Options:
    host: str = "127.0.0.1"
    port: int = 8188
    token: str | None = None
    insecure: bool = False
    allow_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies: what they state about their clients is believed."""
    cors: tuple[str, ...] = ()
    """Origins of other sites whose pages may call this server."""
    user_dir: Path = Path("user")
    limits: RequestLimits = field(default_factory=RequestLimits)

    @property
    def public_name(self) -> str:
        """The name of this server in the address that it prints: its host, or where that is every one, the machine."""
        return self.host if self.host not in ("0.0.0.0", "::", "") else socket.gethostname()

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
