"""The client: another machine's server as an engine. Speaks the field's protocol, so it works with other servers, too."""

from .remote import HttpRemote

__all__ = ["HttpRemote"]
