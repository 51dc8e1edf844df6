"""A pack that does what popular packs do and no documentation asks for."""

from . import calls, imports, patches, runs, slips, sockets

CLASSES = (*sockets.CLASSES, *calls.CLASSES, *imports.CLASSES, *slips.CLASSES, *patches.CLASSES, *runs.CLASSES)
NODE_CLASS_MAPPINGS = {f"Popular {kind.__name__}": kind for kind in CLASSES}
