"""The look of graphs, runs and results: drawings, progress, notebooks."""
