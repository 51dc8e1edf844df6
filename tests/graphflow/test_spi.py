"""`graphflow.spi`: the one door between the engine and the packages that extend it."""

import ast
import subprocess
import sys
from pathlib import Path

import graphflow_nodes
import graphflow_server
import pytest

from graphflow import spi

FOLDERS = [Path(package.__file__).parent for package in (graphflow_nodes, graphflow_server)]


@pytest.mark.parametrize("name", spi.__all__)
def test_every_name_can_be_imported(name):
    assert getattr(spi, name) is not None


def test_what_checkers_see_is_what_runs():
    body = ast.parse(Path(spi.__file__).read_text()).body
    (guarded,) = [node.body for node in body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in guarded for alias in node.names}
    assert seen == spi._MODULES
    assert sorted(seen) == sorted(spi.__all__)


def test_an_unknown_name_is_an_import_error():
    with pytest.raises(ImportError, match="no_such_name"):
        from graphflow.spi import no_such_name  # noqa: F401


def test_importing_it_loads_no_module_of_the_engine_that_graphflow_does_not_load():
    code = (
        "import sys, graphflow; before = set(sys.modules); import graphflow.spi;"
        "print([name for name in set(sys.modules) - before if name.startswith('graphflow')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "['graphflow.spi']"


SOURCES = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py*")) if path.suffix in (".py", ".pyi")]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nodes_stand_ins_and_server_import_nothing_else_of_the_engine(path):
    """Import-linter checks packages; the stand-ins are modules under other names, so their files are read here."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
    assert {name for name in modules if name.partition(".")[0] == "graphflow"} <= {"graphflow", "graphflow.spi"}
