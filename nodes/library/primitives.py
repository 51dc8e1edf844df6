"""Constants as nodes, so that one value can feed several inputs."""

from typing import Annotated

from graphflow import Multiline, Range, Seed, node

_LIMIT = 2**63 - 1


@node("PrimitiveInt", category="utils/primitive", display_name="Int", version="1")
def primitive_int(value: Annotated[int, Range(-_LIMIT, _LIMIT), Seed()]) -> int:
    """A whole number."""
    return value


@node("PrimitiveFloat", category="utils/primitive", display_name="Float", version="1")
def primitive_float(value: Annotated[float, Range(-_LIMIT, _LIMIT)]) -> float:
    """A number."""
    return value


@node("PrimitiveString", category="utils/primitive", display_name="String", version="1")
def primitive_string(value: str) -> str:
    """A text of one line."""
    return value


@node("PrimitiveStringMultiline", category="utils/primitive", display_name="String (Multiline)", version="1")
def primitive_string_multiline(value: Annotated[str, Multiline()]) -> str:
    """A text with line breaks."""
    return value


@node("PrimitiveBoolean", category="utils/primitive", display_name="Boolean", version="1")
def primitive_boolean(value: bool) -> bool:
    """True or false."""
    return value
