"""Reference cases of a whole Stable Diffusion 1.5; see README.md."""
