"""Validation: every Problem of a workflow at once, before anything runs."""
