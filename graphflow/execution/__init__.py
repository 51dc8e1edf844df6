"""The run of a bound workflow, for all callers.

`run` is the loop: what is ready runs, what is cached is skipped. It asks `agenda` what is ready and which values are
still needed, `rights` whether to compute a node or to take what another run has, `calling` how a node's calls are made
(`calls` is the pure part of it), and `expansions` for the nodes that nodes bring. `workers` and `lanes` are where node
functions run.
"""

from .run import Run
from .surroundings import Piece, Supply, Surroundings

__all__ = ["Piece", "Run", "Supply", "Surroundings"]
