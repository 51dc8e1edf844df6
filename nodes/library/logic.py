"""Numbers and choices between the other nodes: switches, arithmetic, conversions."""

import string
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from graphflow import AnyType, Choice, GraphFlowError, Grow, Lazy, Match, Multiline, Problem, Settings, Wire, node

from .expression import evaluate

_Any = Annotated[Any, Match("switch")]
_Value = Annotated[Any, Wire("FLOAT,INT,BOOLEAN")]
_Values = Annotated[dict[str, Any], Grow(AnyType, prefix="value", min=1, max=100)]
_OPTION = "option"


class Switched(NamedTuple):
    output: _Any


class MathResult(NamedTuple):
    FLOAT: float
    INT: int
    BOOL: bool


class Numbers(NamedTuple):
    FLOAT: float
    INT: int


class Negated(NamedTuple):
    output: bool


class Chosen(NamedTuple):
    STRING: str
    INDEX: int


def _side_given(_: Settings, literals: Mapping[str, Any], linked: Mapping[str, str]) -> list[tuple[str | None, str]]:
    """The side that a switch is set to must be there; where the switch itself is linked, that shows only in the run."""
    if "switch" in linked:
        return []
    name = _side(literals["switch"])
    return [] if name in linked or literals.get(name) is not None else [(name, _open_side(literals["switch"]))]


@node("ComfySwitchNode", category="utils/logic", display_name="Switch", version="1", check=_side_given)
def switch(
    switch: bool = False,
    on_false: Lazy[_Any] = None,  # type: ignore[assignment]
    on_true: Lazy[_Any] = None,  # type: ignore[assignment]
) -> Switched:
    """One of two values of any type; what the other one hangs on is not computed."""
    chosen = (on_true if switch else on_false).get()
    if chosen is None:
        raise GraphFlowError([Problem("missing_input", _open_side(switch), input=_side(switch))])
    return Switched(chosen)


def _side(switch: bool) -> str:
    return "on_true" if switch else "on_false"


def _open_side(switch: bool) -> str:
    return f"the switch is {'on' if switch else 'off'}, but nothing is given to {_side(switch)}"


@node("ComfyMathExpression", category="utils/logic", display_name="Math Expression", version="1")
def math_expression(
    expression: Annotated[str, Multiline()] = "a + b",
    *,
    values: Annotated[dict[str, Any], Grow(_Value, names=tuple(string.ascii_lowercase), optional=True)],
) -> MathResult:
    """Compute with the connected values `a`, `b` ...; the result as a number, cut to a whole one, and as true or false.

    `+ - * / // % **`, `& | ^ ~ << >>` on whole numbers, comparisons, `and or not`, `x if c else y`, pi, tau, and
    functions: abs min max sum round floor ceil trunc int float bool sqrt exp log log2 log10 pow hypot sin cos tan asin
    acos atan atan2 degrees radians gcd lcm sign clamp.
    """
    found = evaluate(expression, values)
    return MathResult(_float(found), _int(found), bool(found))


@node("ComfyNumberConvert", category="utils/logic", display_name="Convert Number", version="1")
def number_convert(value: Annotated[Any, Wire("INT,FLOAT,STRING,BOOLEAN")]) -> Numbers:
    """A number, a text that holds one, or true and false (1 and 0), as a number and cut to a whole one."""
    found = _parsed(value) if isinstance(value, str) else value
    return Numbers(_float(found), _int(found))


@node("ComfyAndNode", category="utils/logic", display_name="And", version="1")
def and_(values: _Values) -> bool:
    """Whether all values count as true: every value but false, 0, an empty text, list or dictionary, and nothing."""
    return all(_truth(value) for value in values.values())


@node("ComfyOrNode", category="utils/logic", display_name="Or", version="1")
def or_(values: _Values) -> bool:
    """Whether one of the values counts as true: any but false, 0, an empty text, list or dictionary, and nothing."""
    return any(_truth(value) for value in values.values())


@node("ComfyNotNode", category="utils/logic", display_name="Not", version="1")
def not_(value: AnyType) -> Negated:
    """True for false, 0, an empty text, list or dictionary, and nothing; false for every other value."""
    return Negated(not _truth(value))


def _truth(value: Any) -> bool:
    """Images, models and the like count as true, without being looked at."""
    plain = value is None or isinstance(value, bool | int | float | str | list | tuple | Mapping)
    return bool(value) if plain else True


@node("CustomCombo", category="utils/logic", display_name="Custom Combo", version="1", unchecked={"choice"})
def custom_combo(choice: Annotated[str, Choice(())], **stored: Annotated[Any, Wire("*")]) -> Chosen:
    """One of several texts that stand in the node itself (`option1`, `option2` ...), and its place among them from 0.

    The place is the stored `index`, or looked up where none is stored; -1 if the text is none of them.
    """
    names = sorted(filter(_is_option, stored), key=lambda name: int(name[len(_OPTION) :]))
    texts = [str(stored[name]) for name in names]
    index = stored.get("index")
    if isinstance(index, int):
        return Chosen(choice, index)
    return Chosen(choice, texts.index(choice) if choice in texts else -1)


def _is_option(name: str) -> bool:
    return name.startswith(_OPTION) and name[len(_OPTION) :].isdecimal()


def _parsed(text: str) -> int | float:
    try:
        return int(text.strip())
    except ValueError:
        try:
            return float(text.strip())
        except ValueError:
            raise GraphFlowError(
                [Problem("not_a_number", f"found {text[:60]!r}, expected a number", input="value")]
            ) from None


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise GraphFlowError([Problem("too_large", "the number is too large for a FLOAT")]) from None


def _int(value: Any) -> int:
    """Cut towards zero; infinity and NaN have no whole number, and give 0."""
    return int(value) if not isinstance(value, float) or abs(value) < float("inf") else 0
