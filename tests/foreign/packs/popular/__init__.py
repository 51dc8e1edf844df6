"""A pack that does what popular packs do and no documentation asks for."""

from .sockets import CLASSES as SOCKETS

NODE_CLASS_MAPPINGS = {f"Popular {kind.__name__}": kind for kind in SOCKETS}
