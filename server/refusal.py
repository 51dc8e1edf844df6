"""How a request is refused: one shape for every 4xx, the field's own, with our Problems beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from graphflow import Problem

from .answers import answer

__all__ = ["REASONS", "Refused", "refusal"]

REASONS = {
    400: "bad_request", 401: "no_token", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 408: "too_slow",
    409: "conflict", 413: "too_large", 415: "wrong_content_type", 417: "bad_request", 429: "too_many", 503: "unavailable",
    507: "no_space",
}  # fmt: skip


MOST_SHOWN = 200
"""Problems in one refusal; with more than that, nobody reads on."""


class Refused(Exception):
    """Ends a request with a 4xx. `node_errors` and `kind` are for clients of the field, `problems` for all."""

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
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def to_json(self) -> dict[str, Any]:
        return {
            "error": {"type": self.kind, "message": self.message, "details": self.details, "extra_info": {}},
            "node_errors": self.node_errors,
            "problems": [problem.to_json() for problem in self._shown()],
        }

    def _shown(self) -> list[Problem]:
        more = len(self.problems) - MOST_SHOWN
        if more <= 0:
            return list(self.problems)
        return [
            *self.problems[:MOST_SHOWN],
            Problem("more", f"and {more} problems more", hint="POST /validate tells all"),
        ]


def refusal(refused: Refused) -> web.Response:
    return answer(refused.to_json(), status=refused.status)
