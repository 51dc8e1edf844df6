"""Workflows that ship with the node library; `graphflow run NAME` runs one."""
