"""Node packs that were written for ComfyUI, unmodified: an adapter, not a second engine.

`packs` loads a pack and finds its node classes, `classes` makes a NodeType of a class, `sockets` an Input of an entry
of its INPUT_TYPES, `standins` lets a pack import the helper modules it expects, and `current` gives those the run that
they are part of.
"""

from .current import Current, current, current_settings, inner_context
from .packs import Pack, load_pack, pack_paths

__all__ = ["Current", "Pack", "current", "current_settings", "inner_context", "load_pack", "pack_paths"]
