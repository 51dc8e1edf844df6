"""Sweeps: many variants of one workflow, merged into one plan."""
