"""The values on the links of a graph: how they are shared, measured and stored.

A value is a tree of plain Python (None, bool, int, float, complex, str, bytes, list, tuple, dict, set, Path and the
like), of *leaves* that a codec knows (tensors, arrays) and of *handles* (see `kinds`).

    kinds       handles, several values on one link, values that stop what needs them
    codecs      which package stores which leaf
    sharing     handing a value out so that nobody can change the cached one
    measuring   the bytes that a value holds
    stored      a value as bytes, and back
    given       values of a script, which stand in a workflow by the digest of their content
    canonical   bytes that differ whenever two values differ
"""

from .codecs import Buffer, Codec, NoCodec
from .given import Given, given, is_reference
from .kinds import Blocked, Handle, Items
from .measuring import measure, size_of
from .sharing import Uncopyable, copied, share
from .stored import Encoded, Unstorable, decode, encode

__all__ = [
    "Blocked",
    "Buffer",
    "Codec",
    "Encoded",
    "Given",
    "Handle",
    "Items",
    "NoCodec",
    "Uncopyable",
    "Unstorable",
    "copied",
    "decode",
    "encode",
    "given",
    "is_reference",
    "measure",
    "share",
    "size_of",
]
