"""Refusals of requests: one shape for every 4xx, ComfyUI's own, with our Problems beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from graphflow import Problem

from .answers import answer

__all__ = ["LONGEST_TEXT", "REASONS", "RequestRefused", "refusal", "short", "problems_json"]

REASONS = {
    400: "bad_request",
    401: "no_token",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_large",
    415: "wrong_content_type",
    417: "bad_request",
    429: "too_many",
    503: "unavailable",
    507: "no_space",
}


IN_REASON = ("bad_name", "exists")
"""Codes whose message is the reason phrase as well: the editor shows its user nothing else of an answer."""
MOST_SHOWN = 200
"""Problems in one answer; with more than that, nobody reads on."""
LONGEST_TEXT = 1000
"""Characters of each text of a problem: what a client has sent is not sent back whole."""


class RequestRefused(Exception):
    """Ends a request with a 4xx. `node_errors` and `kind` are for clients of ComfyUI, `problems` for all."""

    def __init__(
        self,
        status: int,
        problems: Problem | Sequence[Problem],
        *,
        kind: str | None = None,
        message: str | None = None,
        details: str = "",
        node_errors: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.kind = kind or REASONS.get(status, "bad_request")
        self.message = message or (self.problems[0].message if self.problems else self.kind)
        self.details = details
        self.node_errors = dict(node_errors or {})
        super().__init__("\n".join(str(problem) for problem in self.problems[:MOST_SHOWN]))

    def to_json(self) -> dict[str, Any]:
        return {
            "error": {
                "type": self.kind,
                "message": short(self.message),
                "details": short(self.details),
                "extra_info": {},
            },
            "node_errors": self.node_errors,
            "problems": problems_json(self.problems),
        }


def problems_json(problems: Sequence[Problem], what: str = "problems", most: int = MOST_SHOWN) -> list[dict[str, str]]:
    """The problems as JSON has them, at most `most`; a last one counts those that are left out."""
    found = [{key: short(text) for key, text in problem.to_json().items()} for problem in problems[:most]]
    if len(problems) > most:
        more = Problem("more", f"and {len(problems) - most} {what} more", hint="POST /validate lists all")
        found.append(more.to_json())
    return found


def short(text: str, most: int = LONGEST_TEXT) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def refusal(refused: RequestRefused) -> web.Response:
    response = answer(refused.to_json(), status=refused.status)
    if refused.problems and refused.problems[0].code in IN_REASON:
        response.set_status(refused.status, _reason(refused.problems[0].message))
    return response


def _reason(text: str) -> str:
    """A text as the reason phrase of a status line: one line of printable ASCII."""
    return short("".join(letter if " " <= letter <= "~" else "?" for letter in text), 200)
