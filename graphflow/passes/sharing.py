"""How several workflows that run at a time share forward passes: each is admitted when it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ..document.workflow import Source, Workflow
from ..problem import GraphFlowError
from .admission import AdmittedRun, PassAdmission
from .likeness import likeness

__all__ = ["SharedRuns"]


@dataclass(frozen=True, slots=True)
class SharedRuns:
    """The workflows of one call of `Engine.run_many`."""

    admission: PassAdmission
    read: Callable[[Source], Workflow]
    likeness: Callable[[Workflow], str]
    calculate: Callable[[Workflow], Mapping[int, float] | None]
    """The calculated costs of shared passes."""
    most: int
    """So many may share passes."""
    is_new: bool
    """What was decided for the same work before does not count."""

    def kind(self, workflow: Source) -> str:
        """Equal for workflows that may share passes; empty for one that cannot be read."""
        try:
            return self.likeness(self.read(workflow))
        except GraphFlowError:  # it is reported when it runs
            return ""

    def begin(self, workflow: Source, kind: str, beside: int, behind: int) -> AdmittedRun:
        """A workflow begins. `beside`: so many of its kind are about to begin as well; `behind`: so many others wait
        until there is a place for them."""
        if not kind:
            return AdmittedRun()
        read = self.read(workflow)
        document = read.to_json()
        return self.admission.admit(
            kind,
            work=likeness(document, document, kind),
            most=self.most,
            waiting=beside,
            behind=behind,
            is_new=self.is_new,
            calculate=partial(self.calculate, read),
        )
