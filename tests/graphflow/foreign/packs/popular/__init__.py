"""A pack that does what popular packs do and no documentation asks for."""

from . import calls, imports, patches, runs, slips, sockets, videos, wraps

PARTS = (sockets, calls, imports, slips, patches, runs, videos, wraps)
NODE_CLASS_MAPPINGS = {f"Popular {kind.__name__}": kind for part in PARTS for kind in part.CLASSES}
