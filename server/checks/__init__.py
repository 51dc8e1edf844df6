"""Accepting a posted workflow: the caps on its cost, the check of the engine, the errors in the form of ComfyUI."""
