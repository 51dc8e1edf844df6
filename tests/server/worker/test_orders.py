"""Prompts that a worker process gets to share passes are expected by each other from the moment they come in."""

import socket

from graphflow_server.worker import process
from graphflow_server.worker.sender import Sender


def test_prompts_that_share_passes_are_expected_until_they_end():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        orders = process._Orders(Sender(ours, 60.0, dict), concurrency=4)

        def take(prompt_id, **head):
            orders._take(process._Order({"prompt_id": prompt_id, "epoch": 1, **head}, b""))
            return orders.waiting.get(timeout=60)

        first, second = (take(name, likeness="like", passes=4) for name in "ab")
        other, alone = take("c", likeness="unlike", passes=4), take("d", likeness="like", passes=1)
        assert first.expected.others_come and not other.expected.others_come
        assert alone.expected is None
        orders.done(second)
        assert not first.expected.others_come
