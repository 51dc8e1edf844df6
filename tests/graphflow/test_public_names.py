"""`import graphflow` defines all public names and loads what is used, when it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import graphflow as gf

HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "numpy",
    "PIL",
    "safetensors",
    "aiohttp",
    "networkx",
    "pydantic",
    "rich",
    "sqlite3",
    "fsspec",
    "asyncio",
    "concurrent.futures",
}


def loaded_by(code: str) -> set[str]:
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_import_alone_loads_no_other_module_of_the_library_and_no_library() -> None:
    before = loaded_by("")
    loaded = loaded_by("import graphflow")
    assert {name for name in loaded if name.startswith("graphflow")} == {"graphflow"}
    assert (loaded - before) & HEAVY == set()


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("Problem", HEAVY),
        ("node", HEAVY),
        ("Settings", HEAVY),
        ("Workflow", HEAVY),
        ("Graph", HEAVY),
        ("template_texts", HEAVY),
    ],
)
def test_a_name_loads_only_what_it_needs(name: str, unused: set[str]) -> None:
    found = (loaded_by(f"import graphflow as gf; gf.{name}") - loaded_by("")) & unused
    assert found == set()


def test_an_engine_that_has_not_run_has_loaded_neither_pydantic_nor_a_model_library() -> None:
    loaded = loaded_by("import graphflow as gf; gf.Engine().validate({'1': {'class_type': 'X'}})")
    assert loaded & {"networkx", "pydantic", "torch", "diffusers", "transformers", "aiohttp"} == set()


def test_every_public_name_is_there_and_comes_from_the_module_that_type_checkers_see() -> None:
    tree = ast.parse(Path(gf.__file__).read_text(encoding="utf-8"))
    (checking,) = [item for item in tree.body if isinstance(item, ast.If)]
    stated = {
        alias.asname or alias.name: item.module
        for item in checking.body
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }
    assert stated == gf._MODULE_OF
    assert sorted(gf.__all__) == sorted(stated) and set(gf.__all__) <= set(dir(gf))
    for name in gf.__all__:
        assert getattr(gf, name) is getattr(sys.modules[f"graphflow.{stated[name]}"], name)


@pytest.mark.parametrize(("old", "new"), gf._RENAMED.items())
def test_a_name_of_before_still_works_and_warns(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(gf, old) is getattr(gf, new)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = gf.Nothing


def test_the_help_of_the_command_loads_no_engine_and_no_library() -> None:
    code = "import contextlib, io; from graphflow.cli import main\n"
    code += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])"
    loaded = loaded_by(code)
    assert loaded & {"graphflow.engine", "graphflow.document", "graphflow_server.command", *HEAVY} == set()
