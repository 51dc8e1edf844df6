"""The workflow as a value: nodes and links, edits, walks. Pure; knows no node type."""
