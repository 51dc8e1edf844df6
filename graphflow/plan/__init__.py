"""The knowledge before a run: recipes of the nodes, which of them must run, and why."""
