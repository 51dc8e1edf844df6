"""Which socket types go together."""

from graphflow.spi import compatible, type_name


def validate_node_input(received_type, input_type, strict=False):
    received, wanted = type_name(received_type), type_name(input_type)
    if strict:
        return set(received.split(",")) <= set(wanted.split(",")) or wanted == "*"
    return compatible(received, wanted)
