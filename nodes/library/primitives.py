"""Constants as nodes, so that one value can feed several inputs."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import FreeLiteral, GraphFlowError, Multiline, Problem, Range, Seed, Settings, Wire, node

_LIMIT = 2**63 - 1
_Color = Annotated[Any, Wire("COLOR"), FreeLiteral()]


class Seeded(NamedTuple):
    seed: int


class ColorParts(NamedTuple):
    rgb_int: int
    hex: Annotated[str, Wire("COLOR")]
    alpha: float


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


@node("SeedNode", category="utils/primitive", display_name="Seed", version="1")
def seed_node(seed: Annotated[int, Range(0, _LIMIT), Seed()] = 0) -> Seeded:
    """A seed that several nodes share."""
    return Seeded(seed)


def check_color(settings: Settings, literals: Mapping[str, Any], types: Mapping[str, str]) -> Iterator[Any]:
    """Raises a Problem where the colour is not one."""
    if "color" in literals:
        color_digits(literals["color"])
    yield from ()


@node("ColorToRGBInt", category="utils", display_name="Color to RGB Int", version="1", check=check_color)
def color_to_rgb_int(color: _Color = "#ffffff") -> ColorParts:
    """The parts of a colour `#rrggbb` or `#rrggbbaa`: red * 65536 + green * 256 + blue, the colour without its opacity,
    and the opacity from 0 to 1."""
    digits = color_digits(color)
    return ColorParts(int(digits[:6], 16), f"#{digits[:6]}", int(digits[6:] or "ff", 16) / 255)


def color_digits(color: Any) -> str:
    """The six or eight digits of a colour. Raises a Problem at `color` where it is not one."""
    found = re.fullmatch(r"#([0-9a-fA-F]{6}(?:[0-9a-fA-F]{2})?)", color) if isinstance(color, str) else None
    if found is None:
        text = f"{str(color)[:40]!r} is not a colour"
        raise GraphFlowError([Problem("not_a_color", text, input="color", hint="write it as #rrggbb or #rrggbbaa")])
    return found[1]
