"""The commands of README.md and docs/ run as they are printed, page by page, in a fresh folder and with a cache that
all pages have in common, as a reader has. They run in one process, which loads torch once, and the workflow that they
name takes few steps: the pages promise what a command accepts and writes."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from graphflow.cli import main
from graphflow.files import shipped

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


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """The shipped workflows, with few steps in the one that the pages run."""
    folder = tmp_path / "shipped"
    shutil.copytree(ROOT / "workflows", folder)
    file = folder / "text_to_image.json"
    document = json.loads(file.read_text())
    document["3"]["inputs"]["steps"] = 3
    file.write_text(json.dumps(document))
    monkeypatch.setattr(shipped, "files", lambda package: folder)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_they_are_printed(page, tmp_path, cache, monkeypatch, capsys):
    here = tmp_path / "here"
    pack = here / "my_packs" / "pack.py"
    pack.parent.mkdir(parents=True)
    pack.write_text(
        "class Echo:\n    INPUT_TYPES = classmethod(lambda cls: {'required': {'x': ('INT', {})}})\n"
        "    RETURN_TYPES, FUNCTION = ('INT',), 'echo'\n    def echo(self, x):\n        return (x,)\n"
        "NODE_CLASS_MAPPINGS = {'Echo': Echo}\n"
    )
    (here / "prompts.txt").write_text("a red apple\na green apple\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(cache))
    for command in commands(page):
        program, *words = shlex.split(command)
        assert program == "graphflow"
        assert main(words) == 0, f"{command}\n{capsys.readouterr().err}"


def test_pages_with_commands_are_found():
    assert {"README", "cache", "formats", "install", "sweeps"} <= {page.stem for page in PAGES if commands(page)}
