"""The client: another machine's server as an engine. Speaks ComfyUI's protocol, so it works with other servers, too."""

from .remote import HttpRemote

__all__ = ["HttpRemote"]
