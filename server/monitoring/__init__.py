"""Observing the server: log lines, and numbers for Prometheus."""
