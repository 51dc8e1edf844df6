"""Node packs that were written for the field's own program, unmodified: an adapter, not a second engine.

`packs` loads a pack and finds its node classes, `classes` makes a NodeType of a class, `sockets` an Input of what its
INPUT_TYPES says, `standins` lets a pack import the helper modules it expects, and `current` tells those which run they
are part of.
"""

from .current import Current, current, current_settings, inner_context
from .packs import Pack, load_pack, pack_paths

__all__ = ["Current", "Pack", "current", "current_settings", "inner_context", "load_pack", "pack_paths"]
