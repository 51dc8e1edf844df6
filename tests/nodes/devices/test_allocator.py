"""Memory of large tensors is kept between passes and given back by an idle device. Each in a process of its own: the
allocator is that of the whole process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")

COMMON = """
import os, resource, sys, time
from threading import Thread
import torch
from graphflow_nodes.devices import allocator, passes
from graphflow_nodes.devices.allocator import give_memory_back, keep_memory

torch.set_num_threads(1)
MIB = 1 << 20

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def held():
    line = next(each for each in open("/proc/self/status") if each.startswith("VmRSS"))
    return int(line.split()[1]) << 10

def compute():
    for _ in range(10):  # 40 MB each: glibc would give each block of that size back at once
        torch.ones(10 * MIB).add_(1)
"""


def run(text: str, **environment: str) -> str:
    import os

    done = subprocess.run(
        [sys.executable, "-c", COMMON + text], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PASSES = """
loop = passes.PassLoop(torch.device("cpu"))
loop.run(compute)
before = faults()
loop.run(compute)
print(faults() - before)
"""


def test_a_pass_takes_the_memory_that_the_pass_before_it_left() -> None:
    pages = 10 * (40 << 20) // 4096
    assert int(run(PASSES)) < pages // 20
    assert int(run(PASSES, GRAPHFLOW_KEEP_MEMORY="0")) > pages // 2


def test_a_device_that_is_idle_gives_its_free_memory_back() -> None:
    text = """
passes.IDLE = 0.05
loop = passes.PassLoop(torch.device("cpu"))
loop.run(lambda: [torch.ones(10 * MIB) for _ in range(10)] and None)
end = time.monotonic() + 60
first = held()
while held() > first - 300 * MIB and time.monotonic() < end:
    time.sleep(0.02)
print(held() < first - 300 * MIB or first < 300 * MIB)
"""
    assert run(text) == "True"


def test_a_block_between_others_keeps_its_numbers_when_memory_is_given_back() -> None:
    text = """
assert keep_memory() and keep_memory()
blocks = [torch.full((MIB,), float(number)) for number in range(20)]
del blocks[1::2]
give_memory_back()
print(all(bool((block == 2 * number).all()) for number, block in enumerate(blocks)))
"""
    assert run(text) == "True"
