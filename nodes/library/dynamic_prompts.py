"""One of the prompts that a template stands for; the syntax is told in `graphflow.script.templates`."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from graphflow import ALWAYS, Choice, InvalidWorkflow, Multiline, Range, Seed, Settings, Wildcards, node, random_text
from graphflow import wildcards_used as used_by

MAX_SEED = 2**64 - 1


def wildcards_folder(settings: Settings) -> Path:
    """Where the wildcard files lie."""
    return settings.input_dir / "wildcards"


def _lines_digest(settings: Settings, text: str, autorefresh: str = "No", **_: Any) -> str:
    """The lines that the prompt may be made of."""
    if autorefresh == "Yes":
        return ALWAYS
    try:
        lines = used_by(text, Wildcards(wildcards_folder(settings)))
    except InvalidWorkflow:
        return "wrong"  # the node says so
    return hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest() if lines else "none"


def _check(settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
    try:
        if isinstance(literals.get("text"), str):
            used_by(literals["text"], Wildcards(wildcards_folder(settings)))
    except InvalidWorkflow as error:
        yield from (("text", problem.message) for problem in error.problems)


@node(
    "DPRandomGenerator",
    category="utils/prompts",
    display_name="Random Prompt",
    version="1",
    outside=_lines_digest,
    check=_check,
)
def dp_random_generator(
    settings: Settings,
    text: Annotated[str, Multiline()],
    seed: Annotated[int, Range(0, MAX_SEED), Seed()] = 0,
    autorefresh: Annotated[str, Choice(("Yes", "No"))] = "No",
) -> str:
    """Pick one of the prompts of a template: `a {red|green} apple in __place__`.

    `{2::a|b}` takes a twice as often, `{2$$a|b|c}` takes two; `__place__` is a line of `wildcards/place.txt` in the
    input folder. The same seed gives the same prompt; with `autorefresh` it is another one every time.
    """
    return random_text(
        text, secrets.randbits(64) if autorefresh == "Yes" else seed, Wildcards(wildcards_folder(settings))
    )
