"""Problems: what is wrong, where, and how to mend it. Errors are values first, exceptions carry them."""

from __future__ import annotations

import difflib
import math
import re
import reprlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from heapq import nlargest
from itertools import islice
from typing import Any

__all__ = [
    "Suggestions",
    "GraphFlowError",
    "InvalidNode",
    "InvalidWorkflow",
    "NodeFailed",
    "TimedOut",
    "UnknownName",
    "CacheWarning",
    "Cancelled",
    "Problem",
    "did_you_mean",
    "near_words",
    "show",
    "with_article",
]


LONGEST = 200
"""Letters of a word that are compared."""
MOST_NAMES = 5000
"""Words that are compared with one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    `code` is stable and meant for programs; `message` and `hint` are meant for people.
    """

    code: str
    message: str
    node: str | None = None
    title: str | None = None
    input: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = ""
        if self.node is not None:
            where = f"node {self.node} ({self.title})" if self.title else f"node {self.node}"
            where += f", input {self.input!r}: " if self.input else ": "
        return printable(f"{where}{self.message}" + (f"\n    {self.hint}" if self.hint else ""))

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


class GraphFlowError(Exception):
    """Base of all errors of this library; `problems` are what was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class InvalidWorkflow(GraphFlowError):
    """The workflow, or the call, is wrong: nothing has run."""


class UnknownName(InvalidWorkflow, KeyError, AttributeError):
    """There is nothing of this name: a node, a node type, an input, a result. One error wherever a name is looked up,
    so it is a KeyError and an AttributeError as well."""

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class InvalidNode(GraphFlowError, TypeError):
    """A function is declared wrongly as a node: an input without an annotation, a type that no link carries."""


class NodeFailed(GraphFlowError):
    """A node raised while it ran; what was done before it is kept in the cache. `__cause__` is what the first one
    raised."""


class Cancelled(GraphFlowError):
    """The run was cancelled on request."""

    def __init__(self) -> None:
        super().__init__([Problem("cancelled", "the run was cancelled")])


class TimedOut(Cancelled, TimeoutError):
    """The run took longer than it was given, and was cancelled. What it had done is in the cache."""

    def __init__(self, seconds: float) -> None:
        text = f"the run was cancelled because it took longer than {seconds:g} s"
        GraphFlowError.__init__(
            self, [Problem("timed_out", text, hint="what is done is cached: run it again to go on")]
        )


class CacheWarning(UserWarning):
    """The cache cannot be used as it was asked to be: runs go on without it, or with a part of it."""


class UnusedInput(UserWarning):
    """A workflow holds what it does not need, and it is passed over: an input that its node does not have, or a node
    that lacks something and that no result stands on."""


class Suggestions:
    """The hints of one workflow. A comparison of two words takes 30 microseconds, so their number has a limit: a
    workflow of ten thousand unknown names is checked as fast as one of a hundred.

    The limit drops hints and decides nothing: `is_near`, on which it depends whether something is an error, is outside
    of it and remembers its answers instead.
    """

    def __init__(self, most: int = 30_000) -> None:
        """`most`: the number of comparisons."""
        self._left = most
        self._known_to_be_near: dict[tuple[str, tuple[str, ...]], bool] = {}

    def did_you_mean(self, word: str, known: Collection[str]) -> str | None:
        """As the function of this name; it only lists the known words when the limit is reached."""
        return did_you_mean(word, known) if self._takes(known) else _listed(list(known), 12)

    def is_near(self, word: str, known: Iterable[str]) -> bool:
        """Whether somebody who wrote the word must have meant one of these few."""
        question = (word, tuple(known))
        if question not in self._known_to_be_near:
            self._known_to_be_near[question] = bool(near_words(*question, cutoff=0.75))
        return self._known_to_be_near[question]

    def _takes(self, known: Collection[str]) -> bool:
        self._left -= min(len(known), MOST_NAMES)
        return self._left >= 0


def did_you_mean(word: str, known: Iterable[str], limit: int = 12) -> str | None:
    """A hint that names the nearest known words, or lists them when none is near."""
    names = [str(name) for name in known]
    near = near_words(word, names)
    if near:
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    return _listed(names, limit)


def _listed(names: Sequence[str], limit: int) -> str | None:
    if not names:
        return None
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return "known: " + ", ".join(names[:limit]) + rest


WHOLE = 0.75
"""How alike words of two endings must be: `VAELodaer` is `VAELoader` and not `VAEEncode`."""


def near_words(word: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The known words, at most three, that are nearly this one, the nearest first.

    An ending that both have is not a likeness: a VAELoader is not a LoraLoader, and every model file ends in
    `.safetensors`. Long words are compared by their first `LONGEST` letters.
    """
    begin, end = _parted(word[:LONGEST])
    matcher = difflib.SequenceMatcher()
    matcher.set_seq2(begin)
    whole = difflib.SequenceMatcher()
    whole.set_seq2((begin + end).lower())
    found = []
    for name in islice(known, MOST_NAMES):
        its_begin, its_end = _parted(name[:LONGEST])
        is_alike = end == its_end or (end[:1], its_end[:1]) == (".", ".")  # files of two formats count as well
        one = matcher if begin and its_begin and is_alike else whole
        one.set_seq1(its_begin if one is matcher else (its_begin + its_end).lower())
        least = cutoff if one is matcher else max(cutoff, WHOLE)
        if one.real_quick_ratio() >= least and one.quick_ratio() >= least and (ratio := one.ratio()) >= least:
            found.append((ratio + (0.5 if end == its_end else 0.0), name))  # a file of the same format first
    return [name for _, name in nlargest(3, found)]


def _parted(word: str) -> tuple[str, str]:
    """The word in small letters but for its ending, and the ending: of a file `.ckpt`, of `LoraLoader` the last
    word."""
    found = _ENDING.search(word)
    place = found.start() if found is not None and found.start() else len(word)
    return word[:place].lower(), word[place:]


_ENDING = re.compile(r"\.[A-Za-z0-9]+$|[A-Z][a-z]+$")


def show(value: Any) -> str:
    """A few words for a value of any size and depth."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"a number of about {round(value.bit_length() * math.log10(2))} digits"
    if isinstance(value, (list, dict, bool, type(None))):
        text = _SHORT.repr(value)
    else:
        text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def printable(text: str) -> str:
    """Text of a file that may be shown in a terminal: what could command it is left out."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def with_article(kind: str) -> str:
    """`a LATENT`, `an IMAGE`."""
    return f"an {kind}" if kind[:1] in "AEIOU" else f"a {kind}"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Short(reprlib.Repr):
    """A value as JSON has it, cut short; texts in the quotation marks that all messages have."""

    def repr_bool(self, value: bool, _: int) -> str:
        return str(value).lower()

    def repr_NoneType(self, *_: Any) -> str:
        return "null"

    repr_FrozenList, repr_FrozenDict = reprlib.Repr.repr_list, reprlib.Repr.repr_dict  # the inputs of a node


_SHORT = _Short()
_SHORT.maxlevel = 3
