"""The cache of unchanged outputs: memory, a folder that many processes share, and a level that machines share.

`store` is the interface of one place where entries are kept; `memory`, `disk` and `remote` are three of them, and
`tiers` makes one of them. `cache` is what an engine asks.
"""

from .cache import COMPILED, Cache, compiled_folder, default_folder
from .checkpoint import Checkpoint
from .disk import DiskTier, Verified
from .entry import Brought, CacheEntry, LongLiteral, Origin, literal_digest
from .folder import own_folder
from .index import TypeStats
from .leases import Lease
from .memory import MemoryTier
from .remote import RemoteTier
from .store import Store

__all__ = [
    "Brought",
    "Cache",
    "Checkpoint",
    "DiskTier",
    "CacheEntry",
    "Lease",
    "LongLiteral",
    "MemoryTier",
    "Origin",
    "RemoteTier",
    "Store",
    "TypeStats",
    "Verified",
    "COMPILED",
    "compiled_folder",
    "default_folder",
    "literal_digest",
    "own_folder",
]
