"""What of a foreign pack makes the results of its nodes new: its files, helpers elsewhere, libraries, and what
IS_CHANGED says."""

import importlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import graphflow as gf
from graphflow.foreign import pack_source
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
        pack_source._first_seen.cache_clear()
        pack_source._loose_modules.cache_clear()

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


HELPER = "def f(v): return v\n"


@pytest.mark.parametrize(
    "line",
    [
        "import os; from helper_elsewhere import f",
        "import os; import json, helper_elsewhere as h",
        "if True: import helper_elsewhere",
        "h = __import__('helper_elsewhere')",
        "import importlib; h = importlib.import_module('helper_elsewhere')",
        "def late():\n    from importlib import import_module as load\n    return load('helper_elsewhere')\nlate()",
        "import importlib; h = importlib.import_module('helper_' + 'elsewhere')",
        "import importlib.util as u, pathlib\nfor path in pathlib.Path(__file__).parents[2].glob('common/h*.py'):\n"
        "    spec = u.spec_from_file_location(path.stem, path); module = u.module_from_spec(spec)\n"
        "    import sys; sys.modules[path.stem] = module; spec.loader.exec_module(module)",
    ],
)
def test_a_helper_counts_however_it_is_imported(load, line):
    def identity(helper):
        kind = load({"packs/p/__init__.py": f"{line}\n{CLASS}", "common/helper_elsewhere.py": helper})
        return kind.version, kind.environment(Settings())

    first = identity(HELPER)
    assert identity(HELPER) == first
    assert identity(HELPER.replace("return v", "return v * 2")) != first


def runs(kind, workflow, cache):
    with gf.Engine(gf.Registry({"A": kind}), cache=gf.Cache(cache)) as engine:
        return engine.run(workflow).timings.keys()


def test_a_call_that_loads_a_helper_by_a_name_it_makes_is_never_a_wrong_hit(load, tmp_path):
    late = "import importlib; f = importlib.import_module('_'.join(['helper', 'elsewhere'])).f"
    text = CLASS.replace("def go(self, v): return", f"def go(self, v):\n        {late}; return").replace(
        '"result": (v,)', '"result": (f(v),)'
    )
    workflow = gf.Workflow.from_json({"a": {"class_type": "A", "inputs": {"v": 1}}})
    files = {"packs/p.py": text, "common/helper_elsewhere.py": HELPER}
    assert runs(load(files), workflow, tmp_path / "cache") == {"a"}, "what it loads is not known before its first call"
    files["common/helper_elsewhere.py"] = HELPER.replace("return v", "return v * 2")
    kind = load(files)
    assert runs(kind, workflow, tmp_path / "cache") == {"a"}
    assert runs(kind, workflow, tmp_path / "cache") == {"a"}, "the first result is kept by nobody"
    assert runs(kind, workflow, tmp_path / "cache") == set()


def compiled(tmp_path, name, text):
    import py_compile

    source = tmp_path / "source.py"
    source.write_text(text)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    always = py_compile.PycInvalidationMode.UNCHECKED_HASH  # the other kind has the time of the text in it
    py_compile.compile(str(source), cfile=str(tmp_path / name), dfile=name, invalidation_mode=always)


@pytest.mark.parametrize("place", ["packs/p/helper.pyc", "common/helper.pyc", "common/deeper.pyc"])
def test_a_compiled_helper_without_its_text_counts(load, tmp_path, place):
    line = "from .helper import f\n" if place.startswith("packs") else "from helper import f\n"
    if place == "common/deeper.pyc":
        compiled(tmp_path, "common/helper.pyc", "from deeper import f\n")

    def version(text):
        compiled(tmp_path, place, text)
        return load({"packs/p/__init__.py": line + CLASS}).version

    first = version(HELPER)
    assert version(HELPER) == first
    assert version(HELPER.replace("return v", "return v * 2")) != first


SETTINGS = [
    "torch.set_default_dtype(torch.float64)",
    "torch.set_float32_matmul_precision('high')",
    "torch.use_deterministic_algorithms(True)",
    "torch.set_flush_denormal(True)",
    "torch.backends.cudnn.benchmark = True",
    "torch.backends.cuda.enable_flash_sdp(False)",
    "torch.nn.functional.interpolate = lambda *_, **__: None",
    "torch.nn.Linear.forward = lambda self, x: x",
    "torch.Tensor.clamp = lambda self, *_: self",
    "import functools; torch.nn.functional.gelu = functools.partial(torch.nn.functional.gelu, approximate='tanh')",
]
REPORT = """
import sys, graphflow as gf, pathlib
from graphflow.foreign.standins import altered
registry = gf.Registry.installed([pathlib.Path("packs")])
workflow = gf.Workflow.from_json({
    "a": {"class_type": "A", "inputs": {"v": 1}},
    "i": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "m": {"class_type": "ImageInvert", "inputs": {"image": ["i", 0]}},
    "s": {"class_type": "SaveImage", "inputs": {"images": ["m", 0], "filename_prefix": "x"}},
})
with gf.Engine(registry, gf.Settings(output_dir=pathlib.Path("out")), gf.Cache("cache")) as engine:
    for _ in range(int(sys.argv[1])):
        print(" ".join(sorted(engine.run(workflow).timings)) or "nothing")
print(altered() or "as delivered")
"""


def report(tmp_path, text, times=1):
    """The nodes that computed in each run of a fresh process, and what is altered afterwards."""
    (tmp_path / "packs").mkdir(exist_ok=True)
    (tmp_path / "packs" / "p.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(times)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_torch_as_delivered_changes_no_recipe(tmp_path):
    text = "import torch\nimport diffusers, transformers, torchsde\n" + CLASS
    assert report(tmp_path, text, 2) == ["a i m s", "nothing", "as delivered"]


def test_what_a_pack_changes_in_torch_at_import_is_a_part_of_every_recipe(tmp_path):
    as_delivered = "import torch\n" + CLASS
    assert report(tmp_path, as_delivered)[0] == "a i m s"
    for line in (SETTINGS[0], SETTINGS[6]):
        changed = f"import torch\n{line}\n" + CLASS
        assert report(tmp_path, changed, 2)[:2] == ["a i m s", "nothing"], "another recipe, and a lasting one"
        assert report(tmp_path, changed)[0] == "nothing"
    assert report(tmp_path, as_delivered)[0] == "nothing", "what was kept before is a hit as before"


def test_a_run_in_which_a_pack_changes_torch_keeps_nothing_that_came_after(tmp_path):
    text = CLASS.replace("def go(self, v): return", f"def go(self, v):\n        import torch; {SETTINGS[1]}; return")
    first, second, third, state = report(tmp_path, text, 3)
    assert (first, third, state) == ("a i m s", "nothing", "matmul precision high; matmul tf32 True")
    assert "a" in second.split(), "the first call of the pack was planned without its change"
    assert "a" in report(tmp_path, text)[0].split(), "in a new process the change is not there yet"


def test_every_setting_of_torch_that_changes_numbers_is_seen():
    code = (
        "import torch; from graphflow.foreign.standins import altered; found = [altered()]\n"
        f"for line in {SETTINGS!r}: exec(line); found.append(altered())\n"
        "print(*found, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, *found = done.stdout.splitlines()
    assert before == ""
    counts = [0, *(len(text.split("; ")) for text in found)]
    assert all(later > earlier for earlier, later in pairwise(counts)), found[-3:]


READS = [
    'import os\nX = os.environ.get("PACK_MODE", "a")\n',
    "import os\nX = os.getenv('PACK_MODE')\n",
    'from os import environ, getenv\nX = "PACK_MODE" in environ and environ["PACK_MODE"]\n',
    "import os\nX = {name: value for name, value in os.environ.items()}\n",
]


@pytest.mark.parametrize("text", READS)
def test_an_environment_variable_that_a_pack_reads_counts(load, monkeypatch, text):
    monkeypatch.delenv("PACK_MODE", raising=False)
    settings = Settings()
    kind = load({"packs/p/__init__.py": text + CLASS})
    without = kind.environment(settings)
    monkeypatch.setenv("PACK_MODE", "b")
    other = kind.environment(settings)
    assert other != without and "PACK_MODE" not in other
    monkeypatch.setenv("PACK_MODE", "c")
    assert kind.environment(settings) not in (without, other)
    monkeypatch.setenv("SHLVL", "7")
    again = kind.environment(settings)
    monkeypatch.setenv("SHLVL", "8")
    assert kind.environment(settings) == again


def test_a_pack_that_reads_no_environment_variable_is_the_same_under_all(load, monkeypatch):
    kind = load({"packs/p/__init__.py": CLASS})
    before = kind.environment(Settings())
    monkeypatch.setenv("PACK_MODE", "b")
    assert kind.environment(Settings()) == before and "variables" not in before
