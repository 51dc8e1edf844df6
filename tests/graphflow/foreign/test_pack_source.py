"""What of a foreign pack makes the results of its nodes new: its files, helpers elsewhere, libraries, and what
IS_CHANGED says."""

import importlib
import sys
from pathlib import Path

import pytest

import graphflow as gf
from graphflow.settings import Settings

CLASS = """
class A:
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"v": ("INT", {"default": 1})}}
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = ("INT",), "go", True
    def go(self, v): return {"ui": {"text": [CALLS.append(v) or str(len(CALLS))]}, "result": (v,)}
CALLS = []
NODE_CLASS_MAPPINGS = {"A": A}
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """`load({"p/__init__.py": text})`: writes the files, loads the folder `packs` and gives node type A."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "common")])

    def forget():
        for name, module in list(sys.modules.items()):
            if str(tmp_path) in str(getattr(module, "__file__", "")):
                del sys.modules[name]
        importlib.invalidate_caches()

    def find(files):
        forget()
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        registry = gf.Registry()
        registry.add_folder(tmp_path / "packs")
        assert not registry.problems
        return registry["A"]

    yield find
    forget()


@pytest.mark.parametrize("name", ["styles.json", "presets/more.txt", "weights.bin", "helper.py"])
def test_every_file_of_a_pack_counts(load, tmp_path, name):
    size = 2 << 20 if name.endswith(".bin") else 10
    first = load({"packs/p/__init__.py": CLASS, f"packs/p/{name}": "#" * size}).version
    assert load({}).version == first
    assert load({f"packs/p/{name}": "#" * (size - 1) + "\n"}).version != first


def test_what_a_pack_leaves_behind_does_not_count(load):
    first = load({"packs/p/__init__.py": CLASS}).version
    rest = ["__pycache__/x.cpython-311.pyc", ".git/HEAD", ".cache", "run.log"]
    assert load({f"packs/p/{name}": "x" for name in rest}).version == first


def test_a_file_that_cannot_be_read_does_not_keep_the_pack_from_loading(load, monkeypatch):
    real = Path.read_bytes

    def read(path):
        if path.name == "secret.json":
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert load({"packs/p/__init__.py": CLASS, "packs/p/secret.json": "{}"}).version


def test_files_behind_a_link_count_and_a_loop_ends(load, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    (tmp_path / "packs" / "p").mkdir(parents=True)
    (tmp_path / "packs" / "p" / "data").symlink_to(tmp_path / "data")
    first = load({"packs/p/__init__.py": CLASS, "data/styles.json": "1"}).version
    assert load({}).version == first
    assert load({"data/styles.json": "2"}).version != first


def test_a_helper_outside_of_the_pack_counts_with_what_it_imports(load):
    text = "from helper_elsewhere import f\n" + CLASS
    helper = "from deeper_elsewhere import K\ndef f(v): return v * K\n"
    files = {"packs/p.py": text, "common/helper_elsewhere.py": helper}
    first = load({**files, "common/deeper_elsewhere.py": "K = 1\n"}).version
    assert load({}).version == first
    assert load({"common/deeper_elsewhere.py": "K = 2\n"}).version != first


def test_the_versions_of_the_libraries_that_a_pack_imports_count(load):
    text = "import json, networkx as nx\nfrom safetensors import numpy\nimport folder_paths\n" + CLASS
    told = load({"packs/p.py": text}).environment(Settings())
    assert "networkx 3" in told and "safetensors 0" in told and "torch 2" in told and "pillow" in told
    assert "json" not in told and "folder" not in told
    assert "networkx" not in load({"packs/p.py": CLASS}).environment(Settings())


@pytest.mark.parametrize(
    "answer, runs",
    [
        ('float("nan")', 2),
        ('[float("nan")]', 2),
        ('{"a": (1, float("nan"))}', 2),
        ('__import__("torch").tensor([1.0, float("nan")])', 2),
        ('__import__("numpy").float32("nan")', 2),
        ("exit(3)", 2),
        ("1 / 0", 2),
        ("1.5", 1),
        ("[1, None]", 1),
        ('__import__("torch").tensor([1.0])', 1),
    ],
)
def test_a_node_whose_is_changed_gives_no_answer_or_nan_runs_each_time(load, answer, runs):
    asks = f"    @classmethod\n    def IS_CHANGED(cls, v): return {answer}\n"
    kind = load({"packs/p.py": CLASS.replace("    def go", asks + "    def go")})
    workflow = gf.Workflow.from_json({"a": {"class_type": "A", "inputs": {"v": 1}}})
    with gf.Engine(gf.Registry({"A": kind}), cache=gf.Cache()) as engine:
        engine.run(workflow)
        assert engine.run(workflow)["a"].ui == {"text": [str(runs)]}


def test_a_pack_that_exits_while_it_checks_its_inputs_ends_nothing(load):
    checks = "    @classmethod\n    def VALIDATE_INPUTS(cls, v): exit(3)\n"
    kind = load({"packs/p.py": CLASS.replace("    def go", checks + "    def go")})
    workflow = gf.Workflow.from_json({"a": {"class_type": "A", "inputs": {"v": 1}}})
    with gf.Engine(gf.Registry({"A": kind})) as engine, pytest.raises(gf.InvalidWorkflow, match="could not check"):
        engine.run(workflow)
