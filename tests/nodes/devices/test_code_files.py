"""Compiled code on disk: whole or not at all, with the libraries that it was written with, in bounded space."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from graphflow_nodes.devices import code_files
from graphflow_nodes.devices.code_files import read_code, write_code

CONTENT: dict[str, Any] = {"source": "x = 1\n", "steps": [{"of": "weight", "value": 0.1}]}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    path = tmp_path / "ab" / "kernel.so"
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF" + bytes(400))
    return path


def entry(library: Path, key: str = "one") -> Path:
    return library.parents[1] / "graphflow" / f"{key}.code"


def test_what_is_written_is_read_again(library: Path) -> None:
    assert read_code("one") is None
    assert write_code("one", CONTENT, [library]) and read_code("one") == CONTENT
    assert list(entry(library).parent.iterdir()) == [entry(library)]


@pytest.mark.parametrize("keep", [0, 1, 70, -1])
def test_a_truncated_file_counts_as_missing(library: Path, keep: int) -> None:
    write_code("one", CONTENT, [library])
    entry(library).write_bytes(entry(library).read_bytes()[:keep])
    assert read_code("one") is None


def test_code_whose_library_is_damaged_counts_as_missing_and_the_library_goes(library: Path) -> None:
    write_code("one", CONTENT, [library])
    library.write_bytes(library.read_bytes()[:-1])
    assert read_code("one") is None and not library.exists()
    assert read_code("one") is None, "and without it"


def test_what_was_not_used_for_longest_makes_room(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [library.with_name(f"{number}.so") for number in range(4)]
    for number, other in enumerate(others):
        other.write_bytes(bytes(1000))
        os.utime(other, (number, number))
    write_code("one", CONTENT, [library, others[0]])
    os.utime(entry(library), (9, 9))
    assert read_code("one") == CONTENT  # which is a use
    monkeypatch.setattr(code_files, "LIMIT", 3600)
    write_code("two", CONTENT, [])
    assert [other.exists() for other in others] == [True, False, False, True]
    assert read_code("one") == CONTENT and read_code("two") == CONTENT


def test_a_folder_that_cannot_be_written_ends_no_run(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(library))  # a file
    assert not write_code("one", CONTENT, []) and read_code("one") is None
