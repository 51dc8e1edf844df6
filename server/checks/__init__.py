"""What of a posted workflow is taken: its cost, the check of the engine, and the errors in the words of ComfyUI."""
