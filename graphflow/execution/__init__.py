"""The run of a bound workflow, for all callers.

`run` is the loop: what is ready runs, what is cached is skipped. It asks `agenda` what is ready and which values are
still needed, `claims` whether to compute a node or to take what another run has, `calling` for the call of a node
(`call` is that value, and what performs it), and `expansions` for the nodes that nodes bring. `admission` decides which
nodes compute at the same time; `workers` are the threads in which they do. `elsewhere` has another
engine compute them.
"""

from .admission import Admission
from .context import OtherEngine, Piece, RunContext, Supply
from .run import Run

__all__ = ["Admission", "OtherEngine", "Piece", "Run", "RunContext", "Supply"]
