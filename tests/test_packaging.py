"""What is installed is what is in the tree, with what it needs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"graphflow": "graphflow", "nodes": "graphflow_nodes", "server": "graphflow_server"}


def test_every_folder_of_python_files_is_a_package_that_is_installed():
    found = {
        ".".join((package, *file.relative_to(ROOT / folder).parent.parts))
        for folder, package in FOLDERS.items()
        for file in (ROOT / folder).rglob("__init__.py")
        if "standins" not in file.parts
    }
    code = "from distutils.core import run_setup; print(*run_setup('setup.py', stop_after='init').packages)"
    command = [sys.executable, "-c", f"import setuptools; {code}"]
    stated = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert {name for name in stated if "standins" not in name} == found | {"graphflow_workflows"}


def test_a_type_checker_finds_the_packages_of_a_checkout_on_a_plain_path(tmp_path):
    """mypy and pyright follow no import hook, such as setuptools makes where folders are called otherwise."""
    code = (
        "from importlib.machinery import PathFinder; from pathlib import Path\n"
        "for name in ('graphflow', 'graphflow_nodes', 'graphflow_server'):\n"
        "    print((Path(PathFinder.find_spec(name).origin).parent / 'py.typed').is_file())"
    )
    command = [sys.executable, "-P", "-c", code]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert found == ["True"] * 3


def test_every_package_that_the_checks_need_is_pinned():
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=\[; ]", line)[0].lower().replace("_", "-") for line in wanted}
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert names - pinned == set()


def test_every_dependency_has_a_reason():
    text = (ROOT / "docs" / "architecture.md").read_text()
    names = {re.split(r"[<>=\[; ]", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert {name for name in names if name not in text} == set()


def test_the_version_is_one():
    import graphflow

    assert graphflow.__version__ == PROJECT["project"]["version"]


def test_the_models_of_the_package_are_small_and_state_what_they_were_made_from():
    folders = (ROOT / "nodes" / "builtin", ROOT / "nodes" / "builtin_adapters")
    sizes = [
        sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        for folder in folders
        for place in folder.iterdir()
        if place.is_dir()
    ]
    assert max(sizes) <= 20_000_000 and sum(sizes) <= 42_000_000
    kinds = [place.name for place in folders[1].iterdir() if place.is_dir()]
    notice = (folders[1] / "NOTICE").read_text(encoding="utf-8")
    assert "Noto Emoji" in notice and [kind for kind in kinds if kind not in notice] == []
    assert {"builtin/**/*", "builtin_adapters/**/*"} <= set(
        PROJECT["tool"]["setuptools"]["package-data"]["graphflow_nodes"]
    )
