"""What the options of `graphflow serve` take."""

from argparse import ArgumentTypeError

import pytest
from graphflow_server.command import arguments


def test_the_number_of_prompts_at_a_time_is_a_number_or_auto():
    assert arguments.concurrency("auto") is None and arguments.concurrency("3") == 3
    for text in ("0", "-1", "some", "1.5"):
        with pytest.raises(ArgumentTypeError, match="whole number from 1 on"):
            arguments.concurrency(text)


@pytest.mark.parametrize(
    ("machine", "worker", "expected"),
    [(64 << 30, None, 4), (64 << 30, 64 << 30, 4), (4 << 30, None, 1), (64 << 30, 4 << 30, 1), (None, None, 4)],
)
def test_auto_is_one_where_memory_is_short(monkeypatch, machine, worker, expected):
    monkeypatch.setattr(arguments, "machine_memory", lambda: machine)
    assert arguments.concurrency_of_machine(worker) == expected
