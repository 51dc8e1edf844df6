"""The node library: one module a theme, and what the nodes share (models/, samplers/)."""
