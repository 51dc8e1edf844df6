"""The commands of README.md and docs/ run as they are printed, page by page, in a fresh folder and with a cache that
all pages have in common, as a reader has."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("", "sh", "bash", "console")
NOT_RUN = re.compile(r"serve\b|identify models/|doctor\b")
"""A server does not end, a model file is the reader's own, and what doctor finds is the machine's."""


def commands(page: Path) -> list[str]:
    """The commands of our program in the blocks of a page, in order; those that go on in the next line as one."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.removeprefix("$ ") for kind, block in blocks if kind in SHELL for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    found = [line.partition(" #")[0].strip() for line in lines if re.match(r"graphflow [a-z-]", line)]
    return [line for line in found if not NOT_RUN.match(line.removeprefix("graphflow ").strip())]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_they_are_printed(page, tmp_path, cache):
    pack = tmp_path / "my_packs" / "pack.py"
    pack.parent.mkdir()
    pack.write_text(
        "class Echo:\n    INPUT_TYPES = classmethod(lambda cls: {'required': {'x': ('INT', {})}})\n"
        "    RETURN_TYPES, FUNCTION = ('INT',), 'echo'\n    def echo(self, x):\n        return (x,)\n"
        "NODE_CLASS_MAPPINGS = {'Echo': Echo}\n"
    )
    (tmp_path / "prompts.txt").write_text("a red apple\na green apple\n")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GRAPHFLOW_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
    }
    for command in commands(page):
        done = subprocess.run(shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_pages_with_commands_are_found():
    assert {"README", "cache", "formats", "install", "sweeps"} <= {page.stem for page in PAGES if commands(page)}
