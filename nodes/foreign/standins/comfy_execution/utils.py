"""Which call of which node is being made."""

from typing import NamedTuple

from graphflow.spi import current


class ExecutionContext(NamedTuple):
    prompt_id: str
    node_id: str
    list_index: int


def get_executing_context():
    call = current()
    return ExecutionContext("", call.context.node_id, call.context.call) if call is not None else None
