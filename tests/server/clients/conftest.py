"""A real `graphflow serve` in a process of its own, and the programs of others that are run against it.

They are installed by tests/server/clients/install; without them these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
PYTHON = HERE / ".venv" / "bin" / "python"
EDITOR = HERE / "editor"
SHIPPED = HERE.parents[2] / "workflows" / "text_to_image.json"
HOW = "run tests/server/clients/install to get the clients that this test runs"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
ARTEFACTS = Path(os.environ.get("GRAPHFLOW_TEST_ARTEFACTS", HERE.parents[2] / "test-artefacts"))
"""Where screenshots are kept."""


def small(steps: int = 3, seed: int = 1, **inputs: Any) -> dict[str, Any]:
    """The shipped workflow, one picture in few steps."""
    prompt = json.loads(SHIPPED.read_text(encoding="utf-8"))
    prompt["3"]["inputs"] |= {"steps": steps, "seed": seed, **inputs}
    prompt["5"]["inputs"]["batch_size"] = 1
    return prompt


@contextmanager
def serving(root: Path, *options: str, editor: bool = False) -> Iterator[str]:
    """HOST:PORT of a server that lives in `root`; it has to end in peace."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(EDITOR) if editor else "",
    }
    command = [
        sys.executable,
        "-m",
        "graphflow.cli",
        "serve",
        "--port",
        "0",
        "--state-dir",
        "state",
        "--no-cache",
        *options,
    ]
    with (root / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"clients of the API use http://(\S+)", process.stdout.readline())
            assert found, (root / "log").read_text()
            yield found[1]
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def client(server: str, tmp_path: Path) -> Callable[..., Any]:
    """Runs a program of `programs/` against the server; what it printed last, read as JSON."""

    def run(name: str, prompt: dict[str, Any]) -> Any:
        file = tmp_path / "workflow.json"
        file.write_text(json.dumps(prompt), encoding="utf-8")
        program = PROGRAMS / name
        if program.suffix == ".mjs":
            if shutil.which("node") is None or not (HERE / "node_modules").is_dir():
                pytest.skip(HOW)
            command = ["node", str(program)]
        else:
            if not PYTHON.exists():
                pytest.skip(HOW)
            command = [str(PYTHON), str(program)]
        done = subprocess.run(
            [*command, server, str(file)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]
        # Some log to the same place, at a time of their own: those lines have a level.
        return [found for found in printed if "level" not in found][-1]

    return run
