"""Which socket types go together."""

from graphflow.foreign.sockets import type_name
from graphflow.nodetype.types import compatible


def validate_node_input(received_type, input_type, strict=False):
    received, wanted = type_name(received_type), type_name(input_type)
    if strict:
        return set(received.split(",")) <= set(wanted.split(",")) or wanted == "*"
    return compatible(received, wanted)
