"""Workflows in a few words, for tests."""

import graphflow as gf


def graph(**nodes):
    """`a=("Add", {"a": 1})`; a link is a string "node" or "node:1"."""

    def literal(value):
        if isinstance(value, str) and value.startswith("@"):
            name, _, slot = value[1:].partition(":")
            return [name, int(slot or 0)]
        return value

    return gf.Workflow.from_json(
        {
            key: {"class_type": kind, "inputs": {name: literal(value) for name, value in inputs.items()}}
            for key, (kind, inputs) in nodes.items()
        }
    )
