"""What is known before a run: recipes of the nodes, what must run, and why."""
