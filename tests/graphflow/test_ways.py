"""The ways through the code are short: a reader who follows a value opens few files."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from graphflow import Engine, GraphFlowError, Problem, Settings
from graphflow.cli import main

WORKFLOW = json.loads((Path(__file__).parents[2] / "workflows" / "text_to_image.json").read_text())
OURS = ("graphflow", "graphflow_nodes", "graphflow_server")
SEED = 987_654_321_012
STEPS = 987_654_321

LOOK_ONLY = {"graphflow.formats.editor.document", "graphflow.values.canonical"}
"""Files that get the seed and hand nothing on: which format is it? what are its bytes in the fingerprint?"""


def test_the_way_of_a_seed_from_the_json_to_the_noise_crosses_at_most_10_files(tmp_path: Path) -> None:
    import diffusers  # noqa: F401  the libraries are loaded before each call is looked at

    with Engine(settings=Settings(output_dir=tmp_path)) as engine, files_that_hold(_is_seed, returned=False) as files:
        engine.run(workflow(seed=SEED, steps=1))
    way = [name for name in files[: files.index("graphflow_nodes.samplers.noise") + 1] if name not in LOOK_ONLY]
    assert len(way) <= 10, way


def test_the_way_of_an_error_from_the_check_to_the_screen_crosses_at_most_6_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(workflow(steps=STEPS)))
    with files_that_hold(_is_error, returned=True) as files:
        assert main(["run", str(path)]) == 2
    assert str(STEPS) in capsys.readouterr().err
    files = [
        name for name in files if name != "graphflow.execution.imports"
    ]  # it sees the end of the block that it times
    assert len({*files, "graphflow.check.literals"}) <= 6, files  # it words the message, and hands it to `report`


def workflow(**inputs: Any) -> dict[str, Any]:
    return {
        key: {**node, "inputs": {**node["inputs"], **inputs}} if node["class_type"] == "KSampler" else node
        for key, node in WORKFLOW.items()
    }


@contextmanager
def files_that_hold(wanted: Callable[[object], bool], returned: bool) -> Iterator[list[str]]:
    """The modules of ours, in order, one of whose functions gets what is wanted as an argument, alone or in a list or a
    dict; or that also returns it."""
    files: list[str] = []

    def look(frame: FrameType, event: str, argument: Any) -> None:
        module = str(frame.f_globals.get("__name__"))
        is_written = not frame.f_code.co_filename.startswith("<")  # and not made by `dataclass`
        if event not in ("call", "return") or module.partition(".")[0] not in OURS or not is_written:
            return
        given = frame.f_locals.values() if event == "call" else (argument,) if returned else ()
        if module not in files and any(_holds(value, wanted) for value in list(given)):
            files.append(module)

    before = sys.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield files
    finally:
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]


def _holds(value: object, wanted: Callable[[object], bool], depth: int = 4) -> bool:
    if wanted(value):
        return True
    if depth == 0 or not isinstance(value, (dict, list, tuple)):
        return False
    parts = list(value.values() if isinstance(value, dict) else value)
    return any(_holds(part, wanted, depth - 1) for part in parts[:50])


def _is_seed(value: object) -> bool:
    return type(value) is int and value == SEED


def _is_error(value: object) -> bool:
    if isinstance(value, str):
        return str(STEPS) in value and "expected" in value
    if isinstance(value, Problem):
        return str(STEPS) in value.message
    return isinstance(value, GraphFlowError) and any(map(_is_error, getattr(value, "problems", ())))
