"""Sweeps: many variants of one workflow, merged into one plan, run as one, looked at together."""

from .axes import Axis, Variant, VariantList
from .results import Results
from .sweep import Sweep, sweep
from .variant import VariantResult

__all__ = ["Axis", "Results", "Sweep", "Variant", "VariantResult", "VariantList", "sweep"]
