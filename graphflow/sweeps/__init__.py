"""Sweeps: many variants of one workflow, merged into one plan, run as one, looked at together."""

from .axes import Axis, Variant, Variants
from .results import Results, VariantResult
from .sweep import Sweep, sweep

__all__ = ["Axis", "Results", "Sweep", "Variant", "VariantResult", "Variants", "sweep"]
