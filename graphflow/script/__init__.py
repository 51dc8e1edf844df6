"""Graphs as Python values: node functions, references to nodes, stubs."""
