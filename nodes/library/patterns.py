"""Regular expressions on texts. A pattern that takes too long is stopped: it would hold the run for ever.

`regex` writes repeats out when it compiles, so a pattern of 40 characters can take gigabytes: nested repeats are
bounded before it sees the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from graphflow import Choice, GraphFlowError, Multiline, Problem, Range, node

from ..devices.environment import matching

if TYPE_CHECKING:
    from regex import Match, Pattern

SECONDS = 2.0
LONGEST_PATTERN, LONGEST_RESULT = 10_000, 10_000_000
MOST_PARTS = 100_000
"""Of a pattern whose repeats are written out: about 280 bytes and a microsecond each."""
_Text = Annotated[str, Multiline()]
_PIECE = re.compile(r"\\N\{[^}]*\}|\\.|\{(?:\d+,?\d*|,\d*)\}|\{", re.DOTALL)
"""An escape, a repeat, or a brace."""
T = TypeVar("T")


class Matches(NamedTuple):
    matches: bool


@node("RegexMatch", category="utils/string", display_name="Regex Match", version="1", environment=matching)
def regex_match(
    string: _Text, regex_pattern: _Text, case_insensitive: bool = True, multiline: bool = False, dotall: bool = False
) -> Matches:
    """Whether a pattern is found anywhere in a text.

    `multiline`: `^` and `$` stand for the ends of every line. `dotall`: `.` stands for line ends, too.
    """
    pattern = _compiled(regex_pattern, case_insensitive, multiline, dotall)
    return Matches(_in_time(lambda: pattern.search(string, timeout=SECONDS)) is not None)


@node("RegexExtract", category="utils/string", display_name="Regex Extract", version="1", environment=matching)
def regex_extract(
    string: _Text,
    regex_pattern: _Text,
    mode: Annotated[str, Choice(("First Match", "All Matches", "First Group", "All Groups"))],
    case_insensitive: bool = True,
    multiline: bool = False,
    dotall: bool = False,
    group_index: Annotated[int, Range(0, 100)] = 1,
) -> str:
    """The matches of a pattern in a text: the first match, all of them, or a group (0 is the whole match) of the first
    or all.

    Several results stand on lines of their own; nothing found is an empty text.
    """
    pattern = _compiled(regex_pattern, case_insensitive, multiline, dotall)
    group = group_index if mode.endswith(("Group", "Groups")) else 0
    if group > pattern.groups:
        return ""
    if mode.startswith("First"):
        first = _in_time(lambda: pattern.search(string, timeout=SECONDS))
        return (first[group] or "") if first is not None else ""
    found = _in_time(lambda: [match[group] for match in pattern.finditer(string, timeout=SECONDS)])
    return "\n".join(part for part in found if part is not None)


@node("RegexReplace", category="utils/string", display_name="Regex Replace", version="1", environment=matching)
def regex_replace(
    string: _Text,
    regex_pattern: _Text,
    replace: _Text,
    case_insensitive: bool = True,
    multiline: bool = False,
    dotall: bool = False,
    count: Annotated[int, Range(0, 100)] = 0,
) -> str:
    r"""A text with what a pattern finds replaced, all of it or the first `count`; `\1` or `\g<name>` stand for
    groups."""
    import regex

    pattern = _compiled(regex_pattern, case_insensitive, multiline, dotall)
    length = len(string)

    def put(match: Match[str]) -> str:
        nonlocal length
        text: str = match.expand(replace)
        length += len(text) - len(match[0])
        if length > LONGEST_RESULT:  # told before it is built: it would fill the memory
            raise _problem("too_long", f"the result has over {LONGEST_RESULT} characters", "replace")
        return text

    try:
        return str(_in_time(lambda: pattern.sub(put, string, count=count, timeout=SECONDS)))
    except (regex.error, IndexError) as error:
        raise _problem("bad_replacement", f"{replace!r} cannot be put in: {error}", "replace") from None


def _compiled(pattern: str, case_insensitive: bool, multiline: bool, dotall: bool) -> Pattern[str]:
    """Python's `re` decides what is a pattern; the package `regex`, which can be stopped, does the work."""
    import regex

    if len(pattern) > LONGEST_PATTERN:
        raise _problem("too_long", f"the pattern has {len(pattern)} characters, over {LONGEST_PATTERN}")
    try:
        parts = _written_out(import_module("re._parser").parse(pattern))
        if parts > MOST_PARTS:
            raise _problem(
                "too_large",
                f"with its repeats written out, the pattern has {parts:,} parts, over {MOST_PARTS:,}",
                hint="repeats inside repeats multiply: ((a{100}){100}){100} is a million",
            )
        re.compile(pattern)
        flags = regex.IGNORECASE * case_insensitive | regex.MULTILINE * multiline | regex.DOTALL * dotall
        return regex.compile(_literal_braces(pattern), flags)
    except (re.error, regex.error, OverflowError, RecursionError) as error:
        raise _problem("bad_pattern", f"{pattern!r} is not a regular expression: {error}") from None


def _written_out(parsed: Iterable[Any]) -> int:
    """Parts of a parsed pattern when each repeat stands as often as it must match. `parsed` is what `re` parses to."""
    total = 0
    for name, arguments in parsed:
        match str(name):
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, _, inner = arguments
                total += max(1, int(least)) * _written_out(inner)
            case "BRANCH":
                total += sum(map(_written_out, arguments[1]))
            case "SUBPATTERN" | "ASSERT" | "ASSERT_NOT":
                total += 1 + _written_out(arguments[-1])
            case "ATOMIC_GROUP":
                total += 1 + _written_out(arguments)
            case "GROUPREF_EXISTS":
                total += 1 + sum(_written_out(branch) for branch in arguments[1:] if branch is not None)
            case _:
                total += 1
    return total


def _literal_braces(pattern: str) -> str:
    """To `re`, braces that hold no numbers are plain characters; to `regex` they allow for errors: `cat{e}`."""
    return _PIECE.sub(lambda found: "\\{" if found[0] == "{" else found[0], pattern)


def _in_time(work: Callable[[], T]) -> T:
    try:
        return work()
    except TimeoutError:
        raise _problem(
            "too_slow", f"the pattern took over {SECONDS:g} s", hint="nested repeats such as (a+)+ do that"
        ) from None


def _problem(code: str, message: str, name: str = "regex_pattern", hint: str | None = None) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=name, hint=hint)])
