"""A pack that does what popular packs do and no documentation asks for."""

from . import calls, imports, slips, sockets

NODE_CLASS_MAPPINGS = {
    f"Popular {kind.__name__}": kind for kind in (*sockets.CLASSES, *calls.CLASSES, *imports.CLASSES, *slips.CLASSES)
}
