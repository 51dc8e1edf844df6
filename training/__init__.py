"""How the built-in model was made; anyone can run it: `make model`."""
