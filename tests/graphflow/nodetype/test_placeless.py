"""A file of own nodes is the same on every machine if its code can read nothing but its inputs; else its place
counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphflow import Registry

HEAD = """
from __future__ import annotations
import math
from dataclasses import dataclass
from typing import Annotated
import numpy as np
import graphflow as gf
from graphflow import Range, node

@dataclass(frozen=True)
class Curve:
    "How steep."
    power: float = 2.0

    def at(self, x: float) -> float:
        return math.pow(x, self.power)

def _eased(x: float) -> float:
    return float(np.clip(Curve().at(x), 0.0, 1.0))
"""
PURE = '''
@node("Ease"{version})
def ease(x: Annotated[float, Range(0.0, 1.0)] = 0.5) -> float:
    """Eased in."""
    return _eased(x) + sum(frame for frame in (0.1, 0.2))
'''


def versions(tmp_path: Path, text: str) -> list[str]:
    """The version of the node in two copies of a file, in two projects."""
    found = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "own.py").write_text(text)
        registry = Registry.installed([folder])
        assert not registry.problems
        found.append(registry["Ease"].version)
    return found


@pytest.mark.parametrize("stated", ["", ', version="1"'])
def test_two_copies_of_a_file_that_only_computes_share_their_results(tmp_path: Path, stated: str) -> None:
    first, second = versions(tmp_path, HEAD + PURE.replace("{version}", stated))
    assert first == second


@pytest.mark.parametrize(
    "line",
    [
        "from pathlib import Path",
        "import os",
        "import json",
        "TABLE = open(__file__).readline()",
        "HERE = __file__",
        "def _late():\n    return np.load('table.npy')",
        "def _late():\n    return np.lib.npyio",
        "def _late(name):\n    return getattr(np, name)",
        "def _late():\n    return eval('1')",
        "def _late():\n    return '{0.__globals__}'.format(_eased)",
        "def _late(settings: gf.Settings):\n    return settings.output_dir",
        "def _late():\n    return gf.Workflow.load('x.json')",
        "def _late():\n    return _eased.__globals__",
    ],
)
def test_a_file_that_might_read_what_lies_beside_it_is_another_in_another_place(tmp_path: Path, line: str) -> None:
    first, second = versions(tmp_path, f"{HEAD}{PURE.replace('{version}', '')}\n{line}\n")
    assert first != second
