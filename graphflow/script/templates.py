r"""Templates of texts ("dynamic prompts"): one template, many texts.

    template = { text | choice | wildcard }
    choice   = "{" [ count "$$" [ joiner "$$" ] ] option { "|" option } "}"
    count    = NUMBER | NUMBER "-" NUMBER          how many different options to take; they are joined with ", "
    option   = [ NUMBER "::" ] template            the number is its weight, 1 where none is stated
    wildcard = "__" NAME "__"                      one line of the file NAME.txt, or of all files that NAME matches

    a {red|green|{3::dark |}blue} apple on {2$$ and $$oak|moss|snow}, __light/evening__, __flowers/*__

A line of a wildcard file is a template itself; empty lines and lines that begin with `#` are skipped. `\{`, `\}`, `\|`,
`\_` and `\\` are the plain characters. This is the part of the syntax of the sd-dynamic-prompts extension that people
use most; its variables (refused) and Jinja templates are left out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

from ..problem import InvalidWorkflow, Problem, did_you_mean

__all__ = ["MOST", "Wildcards", "every_text", "template_texts", "random_text", "wildcards_used"]

MOST = 100_000
"""The most texts that one template may give when all are asked for."""
DEEPEST = 50
_TOKEN = re.compile(r"\\[{}|_\\]|\{|\}|\||__[\w./*?-]+?__(?!_)|[^\\{}|_]+|.", re.DOTALL)
_VARIABLE = re.compile(r"\$\{\s*[A-Za-z_]\w*\s*[=:!}]")
_COUNT = re.compile(r"\s*(\d*)\s*(-)?\s*(\d*)\s*\$\$")
_WEIGHT = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*::")


def template_texts(
    template: str, count: int | None = None, *, seed: int = 0, wildcards: str | Path | None = None
) -> list[str]:
    """All texts of a template, in order; or `count` random ones, different ones as far as there are enough.

    `wildcards` is the folder of the wildcard files. Raises InvalidWorkflow where the template is wrong.
    """
    known = Wildcards(Path(wildcards) if wildcards is not None else None)
    if count is None:
        return list(every_text(template, known))
    found: dict[str, None] = {}
    repeated: list[str] = []
    for number in itertools.count():
        text = random_text(template, seed + number, known)
        if text not in found:
            found[text] = None
        else:
            repeated.append(text)
        if len(found) == count or len(repeated) >= 20 * count:
            return [*found, *repeated[: count - len(found)]]
    raise AssertionError("unreachable")


def random_text(template: str, seed: int, wildcards: Wildcards) -> str:
    """One text of a template; the same for the same seed and files, on every machine."""
    draw = Random(seed).random
    return "".join(_choose(_parse(template), draw, wildcards, ()))


def every_text(template: str, wildcards: Wildcards) -> Iterator[str]:
    """All texts of a template, the last choice moving fastest; where several options are taken, in the order of the
    template."""
    for number, text in enumerate(_all(_parse(template), wildcards, ())):
        if number == MOST:
            raise _wrong(
                "too_many",
                f"it gives more than {MOST} texts",
                "ask for some random ones: template_texts(..., count=100)",
            )
        yield text


def wildcards_used(template: str, wildcards: Wildcards) -> dict[str, list[str]]:
    """The lines of all wildcards that a template may come to: its texts depend on them and on the template."""
    found: dict[str, list[str]] = {}
    stack = list(_parse(template))
    while stack:
        part = stack.pop()
        if isinstance(part, _Choice):
            stack.extend(each for option in part.options for each in option.parts)
        elif isinstance(part, _Wildcard) and part.name not in found:
            found[part.name] = wildcards.lines(part.name)
            stack.extend(each for line in found[part.name] for each in _parse(line))
    return found


class Wildcards:
    """A folder of text files, each line one way to fill a blank."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._read: dict[str, list[str]] = {}

    def lines(self, name: str) -> list[str]:
        """All lines of the files that a name, with `*` and `?` in it, matches. Raises InvalidWorkflow if there are
        none."""
        if name not in self._read:
            files = dict(self._files())
            matching = [path for key, path in files.items() if fnmatchcase(key, name)]
            if not matching:
                where = f"in {self._folder}" if self._folder is not None else "because no wildcards folder is given"
                raise _wrong("no_wildcard", f"there is no wildcard file {name!r} {where}", did_you_mean(name, files))
            self._read[name] = [line for path in matching for line in _lines(path)]
            if not self._read[name]:
                raise _wrong("empty_wildcard", f"the wildcard {name!r} has no lines")
        return self._read[name]

    def _files(self) -> Iterator[tuple[str, Path]]:
        if self._folder is None or not self._folder.is_dir():
            return
        root = self._folder.resolve()
        for path in sorted(self._folder.rglob("*.txt")):
            if path.is_file() and path.resolve().is_relative_to(root):
                yield path.relative_to(self._folder).with_suffix("").as_posix(), path


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


# -- the parts of a template -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Option:
    weight: float
    parts: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    options: tuple[_Option, ...]
    low: int
    high: int
    joiner: str


@dataclass(frozen=True, slots=True)
class _Wildcard:
    name: str


_Part = str | _Choice | _Wildcard


def _parse(template: str) -> tuple[_Part, ...]:
    if variable := _VARIABLE.search(template):
        raise _wrong(
            "variable",
            f"{variable[0]}... looks like a variable, and there are none",
            "write the choice where it is used, or \\{ for a plain bracket",
        )
    tokens = _TOKEN.findall(template)
    parts, at = _sequence(tokens, 0, 0)
    if at < len(tokens):
        raise _wrong("unbalanced", f"a '}}' closes nothing in {_short(template)}", "write \\} for a plain bracket")
    return parts


def _sequence(tokens: Sequence[str], at: int, depth: int) -> tuple[tuple[_Part, ...], int]:
    """Parts up to the end, or, inside brackets, up to `|` or `}`."""
    parts: list[_Part] = []
    while at < len(tokens):
        token = tokens[at]
        if token == "}" or (token == "|" and depth):
            break
        at += 1
        if token == "{":
            choice, at = _choice(tokens, at, depth + 1)
            parts.append(choice)
            continue
        if len(token) > 4 and token.startswith("__"):
            parts.append(_Wildcard(token[2:-2]))
            continue
        text = token[1:] if len(token) == 2 and token[0] == "\\" else token
        if parts and isinstance(parts[-1], str):
            parts[-1] += text
        else:
            parts.append(text)
    return tuple(parts), at


def _choice(tokens: Sequence[str], at: int, depth: int) -> tuple[_Choice, int]:
    if depth > DEEPEST:
        raise _wrong("too_deep", f"brackets are nested more than {DEEPEST} deep")
    low = high = 1
    joiner = ", "
    head = tokens[at] if at < len(tokens) else ""
    counted = _COUNT.match(head)
    if counted and (counted[1] or counted[3]):
        low = int(counted[1] or 1)
        high = int(counted[3] or 0) if counted[2] else low
        head = head[counted.end() :]
        before, stated, rest = head.partition("$$")
        if stated:
            joiner, head = before, rest
        tokens = [*tokens[:at], head, *tokens[at + 1 :]]
    options: list[_Option] = []
    while True:
        weight = 1.0
        weighted = _WEIGHT.match(tokens[at]) if at < len(tokens) else None
        if weighted:
            weight = float(weighted[1])
            tokens = [*tokens[:at], tokens[at][weighted.end() :], *tokens[at + 1 :]]
        parts, at = _sequence(tokens, at, depth)
        options.append(_Option(weight, parts))
        if at == len(tokens):
            raise _wrong("unbalanced", "a '{' is never closed", "write \\{ for a plain bracket")
        at += 1
        if tokens[at - 1] == "}":
            break
    options = [option for option in options if option.weight > 0]
    if not options:
        raise _wrong("no_weight", "all options of a choice have the weight 0")
    high = min(high or len(options), len(options))
    return _Choice(tuple(options), min(low, high), high, joiner), at


def _choose(
    parts: Sequence[_Part], draw: Callable[[], float], wildcards: Wildcards, inside: tuple[str, ...]
) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, _Wildcard):
            _refuse_endless(part.name, inside)
            lines = wildcards.lines(part.name)
            yield from _choose(_parse(lines[int(draw() * len(lines))]), draw, wildcards, (*inside, part.name))
        else:
            taken = []
            left = list(part.options)
            for _ in range(part.low + int(draw() * (part.high - part.low + 1))):
                option = _weighted(left, draw)
                left.remove(option)
                taken.append("".join(_choose(option.parts, draw, wildcards, inside)))
            yield part.joiner.join(taken)


def _weighted(options: list[_Option], draw: Callable[[], float]) -> _Option:
    point = draw() * sum(option.weight for option in options)
    for option in options:
        point -= option.weight
        if point < 0:
            return option
    return options[-1]


def _all(parts: Sequence[_Part], wildcards: Wildcards, inside: tuple[str, ...]) -> Iterator[str]:
    if not parts:
        yield ""
        return
    first, rest = parts[0], parts[1:]
    for start in _all_of(first, wildcards, inside):
        for end in _all(rest, wildcards, inside):
            yield start + end


def _all_of(part: _Part, wildcards: Wildcards, inside: tuple[str, ...]) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, _Wildcard):
        _refuse_endless(part.name, inside)
        for line in wildcards.lines(part.name):
            yield from _all(_parse(line), wildcards, (*inside, part.name))
    else:
        for count in range(part.low, part.high + 1):
            for taken in itertools.combinations(part.options, count):
                each = (list(_all(option.parts, wildcards, inside)) for option in taken)
                yield from (part.joiner.join(texts) for texts in itertools.product(*each))


def _refuse_endless(name: str, inside: tuple[str, ...]) -> None:
    if name in inside:
        raise _wrong("endless", f"the wildcard {name!r} comes to itself: {' -> '.join((*inside, name))}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _wrong(code: str, message: str, hint: str | None = None) -> InvalidWorkflow:
    return InvalidWorkflow([Problem(code, message, hint=hint)])
