"""How the server is observed: log lines and numbers for Prometheus."""
