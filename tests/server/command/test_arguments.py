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
    ("machine", "worker", "workers", "expected"),
    [
        (64 << 30, None, 1, 4),
        (64 << 30, 64 << 30, 1, 4),
        (3 << 30, None, 1, 1),
        (64 << 30, 4 << 30, 1, 2),
        (12 << 30, None, 2, 3),
        (4 << 30, None, 8, 1),
        (None, None, 1, 4),
    ],
)
def test_auto_is_as_many_prompts_as_the_memory_of_each_worker_holds(monkeypatch, machine, worker, workers, expected):
    monkeypatch.setattr(arguments, "machine_memory", lambda: machine)
    assert arguments.concurrency_of_machine(worker, workers) == expected


def test_devices_are_named_once_each_but_for_a_cpu():
    assert arguments.devices("auto") == "auto" and arguments.devices("cpu*2") == "cpu*2"
    for text, why in (("gpu0", "not a device"), ("cuda:0*2", "named twice"), ("cpu:1", "not a device")):
        with pytest.raises(ArgumentTypeError, match=why):
            arguments.devices(text)
