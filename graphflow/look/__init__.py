"""How graphs, runs and results look: drawings, progress, notebooks."""
