"""Arithmetic on named numbers, written as text: Python's syntax, a closed list of what it may hold, no `eval`."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from graphflow import GraphFlowError, Problem, did_you_mean

__all__ = ["FUNCTIONS", "Number", "evaluate"]

Number = int | float | bool
LONGEST, LARGEST_BITS, DEEPEST = 2000, 4096, 50
MOST_DIGITS = 400
"""Beyond them rounding changes no number of a bearable size, and Python would take for ever over it."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "min": lambda *v: min(v),
    "max": lambda *v: max(v),
    "round": lambda v, digits=None: _rounded(v, digits),
    "int": int,
    "float": float,
    "bool": bool,
    "sum": lambda *v: sum(v),
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "pow": lambda a, b: _power(a, b),
    "hypot": math.hypot,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "atan2": math.atan2,
    "degrees": math.degrees,
    "radians": math.radians,
    "gcd": math.gcd,
    "lcm": math.lcm,
    "sign": lambda v: (v > 0) - (v < 0),
    "clamp": lambda v, low, high: max(low, min(v, high)),
}
CONSTANTS = {"pi": math.pi, "tau": math.tau, "inf": math.inf}


def _rounded(value: Number, digits: int | None) -> Number:
    return round(value) if digits is None else round(value, max(-MOST_DIGITS, min(_whole(digits), MOST_DIGITS)))


def _power(a: Number, b: Number) -> Number:
    """a ** b where the result has a bearable size."""
    if isinstance(a, int) and isinstance(b, int) and b > 0 and a.bit_length() * b > LARGEST_BITS:
        raise OverflowError(f"{_short(a)} ** {_short(b)} is too large")
    found = a**b
    if isinstance(found, complex):
        raise ValueError(f"{a} ** {b} is no real number")
    return found


def _shift(a: int, b: int) -> int:
    if a.bit_length() + b > LARGEST_BITS:
        raise OverflowError(f"{_short(a)} << {_short(b)} is too large")
    return a << b


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: _shift,
    ast.RShift: operator.rshift,
}
_BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift)
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def evaluate(expression: str, values: Mapping[str, Number]) -> Number:
    """The value of an expression. Raises GraphFlowError that says what in it is not understood or cannot be
    computed."""
    if len(expression) > LONGEST:
        raise _problem("bad_expression", f"it has {len(expression)} characters, over {LONGEST}")
    text = " ".join(" ".join(line.split("#")[0] for line in expression.splitlines()).split())
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _problem("bad_expression", f"{text!r} is no expression: {getattr(error, 'msg', error)}") from None
    try:
        found: Number = _value(tree.body, values, 0)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise _problem("not_computable", f"{text!r} with {_shown(values)}: {error}") from None
    return found


def _value(part: ast.expr, values: Mapping[str, Number], depth: int) -> Any:
    if depth > DEEPEST:
        raise _problem("bad_expression", f"it is nested deeper than {DEEPEST} levels")

    def inner(child: ast.expr) -> Any:
        return _value(child, values, depth + 1)

    match part:
        case ast.Constant(value=bool() | int() | float()):
            return part.value
        case ast.Name(id=name):
            return _named(name, values)
        case ast.BinOp():
            return _chain(part, inner)
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ~_whole(inner(operand))
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](inner(operand))
        case ast.BoolOp(op=op, values=parts):
            return _any_or_all(isinstance(op, ast.Or), parts, inner)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            terms = [inner(left), *map(inner, others)]
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(ops, terms, terms[1:], strict=False))
        case ast.IfExp(test=test, body=body, orelse=other):
            return inner(body) if inner(test) else inner(other)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _bounded(FUNCTIONS[name](*map(inner, arguments)))
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            hint = did_you_mean(name, FUNCTIONS) or "known are " + ", ".join(FUNCTIONS)
            raise _problem("bad_expression", f"there is no function {name!r}", hint)
    raise _not_allowed(part)


def _chain(part: ast.expr, inner: Callable[[ast.expr], Any]) -> Any:
    """a + b - c ..., which Python nests to the left: a long sum is not deep."""
    links: list[tuple[ast.operator, ast.expr]] = []
    while isinstance(part, ast.BinOp) and type(part.op) in _BINARY:
        links.append((part.op, part.right))
        part = part.left
    if not links:
        raise _not_allowed(part)
    found = inner(part)
    for op, right in reversed(links):
        a, b = found, inner(right)
        if isinstance(op, _BITWISE):  # a whole number may come as a float, 64.0 & -8
            a, b = _whole(a), _whole(b)
        found = _bounded(_BINARY[type(op)](a, b))
    return found


def _named(name: str, values: Mapping[str, Number]) -> Number:
    if name in values:
        return values[name]
    if name in CONSTANTS:
        return CONSTANTS[name]
    known = ", ".join(values) or "none"
    raise _problem("bad_expression", f"there is no value {name!r}", f"connected are: {known}")


def _any_or_all(any_of: bool, parts: list[ast.expr], inner: Callable[[ast.expr], Any]) -> Any:
    """Python's rule: the first part that settles it, or the last one."""
    found: Any = None
    for part in parts:
        found = inner(part)
        if bool(found) is any_of:
            return found
    return found


def _whole(value: Number) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value} is no whole number")
    return int(value)


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise OverflowError("a number became too large")
    return value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "a huge number" if isinstance(value, int) and abs(value) >= 10**12 else str(value)


def _shown(values: Mapping[str, Number]) -> str:
    return ", ".join(f"{name} = {_short(value)}" for name, value in values.items()) or "no values"


def _not_allowed(part: ast.expr) -> GraphFlowError:
    hint = "numbers, names, + - * / // % **, & | ^ ~ << >>, comparisons, and, or, not, a if b else c, functions"
    return _problem("bad_expression", f"{ast.unparse(part)!r} is not allowed", hint)


def _problem(code: str, message: str, hint: str | None = None) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input="expression", hint=hint)])
