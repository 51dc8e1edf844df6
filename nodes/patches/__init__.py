"""Patches: data on a model's handle that says what is changed about it (see model/patch.py for the kinds and their
keys)."""
