"""What a node without a stated version reads and calls is part of its version, wherever it lies; and what says nothing
of a result is not."""

import importlib
import os
import subprocess
import sys
import textwrap
import time

import pytest

import graphflow as gf
from graphflow.nodetype.source import code_digest

HEAD = "from graphflow import node\n"
NODE = '@node("N")\ndef n(v: int = 3) -> int:\n    return {}\n'


@pytest.fixture
def version(tmp_path, monkeypatch):
    """`version({"n.py": text}, variable=value)`: writes the files and loads the folder as another process would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def forget():
        for name, module in list(sys.modules.items()):
            if str(tmp_path) in str(getattr(module, "__file__", "")):
                del sys.modules[name]
        importlib.invalidate_caches()

    def find(files, name="N", **variables):
        forget()
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(textwrap.dedent(text))
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        registry = gf.Registry()
        registry.add_folder(tmp_path / "nodes")
        assert not registry.problems
        return registry[name].version

    yield find
    forget()


ONE_FILE = {
    "a set": ('WORDS = set(open("data").read().split())\n', "len(WORDS)"),
    "an attribute of a function": ('def f(v): return len(f.k)\nf.k = open("data").read()\n', "f(v)"),
    "an implementation of a single dispatch": (
        'from functools import singledispatch\nK = open("data").read()\n@singledispatch\ndef f(v): return 0\n'
        "@f.register\ndef _(v: int): return len(K)\n",
        "f(v)",
    ),
    "a metaclass": (
        'class Meta(type):\n    K = open("data").read()\n    def size(cls): return len(cls.K)\n'
        "class C(metaclass=Meta): pass\n",
        "C.size()",
    ),
    "a variable that is named by a text": ('K = open("data").read()\n', 'len(globals()["K"])'),
    "a numpy array": ('import numpy as np\nT = np.loadtxt("data")\n', "int(v * T.sum())"),
    "a namespace": ('from types import SimpleNamespace\nC = SimpleNamespace(k=open("data").read())\n', "len(C.k)"),
    "an object of an own class": (
        'class Config:\n    def __init__(self): self.k = open("data").read()\nC = Config()\n',
        "len(C.k)",
    ),
    "functions in a dict": (
        'K = open("data").read()\ndef one(v): return v * len(K)\nTABLE = {"one": one}\n',
        'TABLE["one"](v)',
    ),
    "a variable that a method reads": (
        'K = open("data").read()\nclass H:\n    def apply(self, v): return v * len(K)\n',
        "H().apply(v)",
    ),
    "a variable that a kept function reads": (
        'import functools\nK = open("data").read()\n@functools.lru_cache\ndef h(v): return v * len(K)\n',
        "h(v)",
    ),
    "an attribute of a class": ('class Base: K = 2\nBase.K = open("data").read()\n', "v * len(Base.K)"),
    "an attribute of a base class": (
        'class Base: K = 2\nclass Sub(Base): pass\nBase.K = open("data").read()\n',
        "v * len(Sub.K)",
    ),
    "a property": (
        'K = open("data").read()\nclass H:\n    @property\n    def k(self): return len(K)\n',
        "v * H().k",
    ),
    "a pattern": ('import re\nP = re.compile(open("data").read())\n', 'len(P.findall("1 2"))'),
    "a path": ('from pathlib import Path\nP = Path(open("data").read())\n', "len(str(P))"),
    "a part of a function": (
        'import functools\ndef g(k, v): return k * v\nP = functools.partial(g, open("data").read())\n',
        "len(P(v))",
    ),
}


@pytest.mark.parametrize("what", ONE_FILE)
def test_what_a_module_variable_holds_counts(version, what):
    before, body = ONE_FILE[what]
    files = {"nodes/n.py": HEAD + before + NODE.format(body)}
    first = version({**files, "data": "1 2"})
    assert version(files) == first
    assert version({"data": "1 2 30 40"}) != first


def test_variables_of_an_imported_module_count(version):
    files = {
        "nodes/p/__init__.py": HEAD + "from . import config\n" + NODE.format('v * config.DATA["k"]'),
        "nodes/p/config.py": 'import json\nDATA = json.load(open("data"))\nUNUSED = open("data")\n',
    }
    first = version({**files, "data": '{"k": 2}'})
    assert version(files) == first, "what the node does not name does not count, and this could not be told"
    assert version({"data": '{"k": 20}'}) != first


def test_a_variable_of_an_imported_module_that_is_named_by_a_text_counts(version):
    files = {
        "settings.py": 'K = open("data").read()\n',
        "nodes/n.py": HEAD
        + "import sys\nsys.path.append('.')\nimport settings\nNAME = 'K'\n"
        + NODE.format("len(getattr(settings, NAME))"),
    }
    first = version({**files, "data": "one"})
    assert version({**files, "data": "two"}) != first == version({**files, "data": "one"})


def test_every_function_counts_with_what_it_names_of_a_module_itself(version):
    head = HEAD + "from . import config\ndef other(v): return v * config.B\n" + NODE.format("v * config.A + other(v)")
    files = {
        "nodes/p/__init__.py": head,
        "nodes/p/config.py": "from . import config\nA, B = open('data').read().split()\n",
    }
    first = version({**files, "data": "1 2"})
    assert version(files) == first
    assert len({first, version({"data": "1 3"}), version({"data": "3 2"})}) == 3


@pytest.mark.parametrize(
    "load",
    ['importlib.import_module(".helper", __package__)', 'importlib.import_module("." + "help" + "er", __package__)'],
)
def test_a_module_that_is_loaded_by_its_name_counts(version, load):
    files = {"nodes/p/__init__.py": HEAD + "import importlib\n" + NODE.format(f"{load}.f(v)")}
    first = version({**files, "nodes/p/helper.py": "def f(v): return v * 2\n"})
    assert version(files) == first
    assert version({"nodes/p/helper.py": "def f(v): return v * 20\n"}) != first


ON_THE_PATH = "import sys; sys.path.insert(0, 'common')\n"


@pytest.mark.parametrize(
    "text",
    [
        ON_THE_PATH + "from tools import f\n" + NODE.format("f(v)"),
        ON_THE_PATH + NODE.format("late(v)") + "\ndef late(v):\n    from tools import f\n    return f(v)\n",
        ON_THE_PATH + NODE.format("__import__('tools').f(v)"),
    ],
)
def test_a_helper_anywhere_on_the_path_counts_with_all_that_it_imports(version, text):
    files = {"nodes/n.py": HEAD + text, "common/tools.py": "from deeper import K\ndef f(v): return v * K\n"}
    first = version({**files, "common/deeper.py": "K = 2\n"})
    assert version(files) == first
    assert version({"common/deeper.py": "K = 20\n"}) != first


def test_loggers_locks_and_libraries_do_not_count(version):
    body = "log(math.floor(np.sqrt(v)))"
    text = HEAD + (
        "import logging, math, threading, contextlib, functools\nimport numpy as np\nL = logging.getLogger()\nK = "
        "threading.Lock()\n"
        "@contextlib.contextmanager\ndef quiet():\n    with K: yield\n"
        'def log(v):\n    with quiet():\n        L.info("%s", v)\n    return v if v in {"a", "b", "c", 1, 2} else 0\n'
    )
    first = version({"nodes/n.py": text + NODE.format(body)})
    code = (
        "import graphflow as gf, pathlib; r = gf.Registry(); r.add_folder(pathlib.Path('nodes')); print(r['N'].version)"
    )
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert found.stdout.strip() == first, found.stderr
    assert version({"nodes/n.py": text.replace('"c"', '"d"') + NODE.format(body)}) != first


def test_code_of_a_folder_counts_even_where_it_states_a_version(version):
    text = HEAD + '@node("N", version="1")\ndef n(v: int = 3) -> int:\n    return v * 2\n'
    first = version({"nodes/n.py": text})
    assert version({"nodes/n.py": text}) == first
    assert version({"nodes/n.py": text.replace("* 2", "* 1000")}) != first
    with_lock = text + "K = open('data')\n@node('M', version='1')\ndef m(v: int = 3) -> int:\n    return K and v\n"
    first = version({"nodes/n.py": with_lock, "data": ""}, "M")
    assert version({}, "M") == first, "what a stated version stands for is not looked into"


def test_two_projects_with_nodes_of_one_name_and_version_share_no_result(tmp_path, graph):
    def outcome(folder, file, expression):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text(
            "from graphflow import node, Ui\n"
            f'@node("Scale", version="1")\ndef scale(v: int = 3) -> int:\n    return {expression}\n'
            '@node("Show", version="1", output=True)\ndef show(v: int) -> Ui:\n    return Ui({"v": [v]})\n'
        )
        registry = gf.Registry()
        registry.add_folder(tmp_path / folder)
        with gf.Engine(registry, cache=gf.Cache(tmp_path / "cache")) as engine:
            return engine.run(graph(s=("Scale", {}), o=("Show", {"v": "@s"})))["o"].ui["v"]

    assert outcome("one", "mine.py", "v * 2") == [6]
    assert outcome("two", "other.py", "v * 1000") == [3000]


def test_a_node_that_replaces_one_of_another_package_has_a_version_of_its_own(version):
    text = HEAD + '@node("EmptyImage", version="1")\ndef n(v: int = 3) -> int:\n    return v\n'
    assert version({"nodes/n.py": text}, "EmptyImage") != gf.Registry.installed()["EmptyImage"].version


def test_a_file_that_was_put_in_the_place_of_another_is_not_taken_for_what_runs(tmp_path, version):
    """`mv` and `cp -p` bring an older time of writing."""
    text = HEAD + NODE.format("v * 2")
    version({"nodes/n.py": text})
    kind = gf.Registry()
    kind.add_folder(tmp_path / "nodes")
    (tmp_path / "new").write_text(text.replace("* 2", "* 20"))
    os.utime(tmp_path / "new", (time.time() - 1000,) * 2)
    time.sleep(0.02)
    os.rename(tmp_path / "new", tmp_path / "nodes" / "n.py")
    of_old_code = kind["N"].version
    assert version({}) != of_old_code


def test_an_old_compiled_file_is_not_taken_for_its_text(tmp_path, version, monkeypatch):
    """Python believes a compiled file if the text has the same size and time of writing."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "nodes" / "n.py"
    path.parent.mkdir()
    written = time.time() // 1 - 1000

    def write(text):
        path.write_text(text)
        os.utime(path, (written, written))

    write(HEAD + NODE.format("v * 2"))
    version({})
    write(HEAD + NODE.format("v * 3"))
    stale = version({})
    for compiled in path.parent.rglob("*.pyc"):
        compiled.unlink()
    assert version({}) != stale


def test_the_code_of_an_installed_package_counts_for_its_own_nodes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    package = tmp_path / "site-packages" / "installed_pack"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nodes.py").write_text(
        HEAD
        + "from .helper import Helper\n"
        + NODE.format("late(Helper().apply(v))")
        + "def late(v):\n    import importlib\n    return importlib.import_module('.lazy', __package__).f(v)\n"
    )

    def version(factor, lazy, data="1"):
        (package / "helper.py").write_text(
            f"K = {data}\nclass Helper:\n    def apply(self, v): return v * {factor} * K\n"
        )
        (package / "lazy.py").write_text(f"def f(v): return v + {lazy}\n")
        for name in [name for name in sys.modules if name.startswith("installed_pack")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module("installed_pack.nodes").n.node_type.version

    first = version(1, 1)
    assert version(1, 1) == first
    assert len({first, version(2, 1), version(1, 2), version(1, 1, "2")}) == 4


def notebook(text, file="<string>"):
    space = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(text), file, "exec"), space)
    return space


def test_the_module_of_a_function_that_a_notebook_imports_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def digest(text):
        (tmp_path / "helper_of_notebook.py").write_text(text)
        sys.modules.pop("helper_of_notebook", None)
        importlib.invalidate_caches()
        space = notebook("from helper_of_notebook import f\ndef g(v):\n    return f(v)\n")
        return code_digest(space["g"], time.time())

    first = digest("def f(v):\n    from os import sep\n    return v * 2\n")
    assert digest("def f(v):\n    from os import sep\n    return v * 2\n") == first
    assert digest("def f(v):\n    from os import sep\n    return v * 3\n") != first
    assert digest("K = 5\ndef f(v):\n    from os import sep\n    return v * 2\n") != first, "all of its text counts"


@pytest.mark.parametrize("file", ["<ipython-input-1>", "/tmp/ipykernel_1/2.py"])
def test_a_function_that_is_defined_again_in_a_notebook_makes_its_node_new(file):
    space = notebook(
        "from graphflow import node, Ui\ndef f(v): return v\n"
        '@node("N", output=True)\ndef n(v: int = 3) -> Ui:\n    return Ui({"v": [f(v)]})\n',
        file,
    )
    with gf.Engine(gf.Registry([space["n"]]), cache=gf.Cache()) as engine:
        workflow = gf.Workflow.from_json({"n": {"class_type": "N", "inputs": {}}})
        assert engine.run(workflow)["n"].ui == {"v": [3]}
        assert engine.run(workflow).cached == ("n",)
        exec("def f(v): return v * 10", space)
        assert engine.run(workflow)["n"].ui == {"v": [30]}


def test_nodes_of_one_name_and_version_in_two_notebooks_are_two():
    text = '@node("Scale", version="1")\ndef scale(v: int) -> int:\n    return v * 2\n'
    one, same, two = (notebook(HEAD + code)["scale"].node_type for code in (text, text, text.replace("* 2", "* 1000")))
    assert one.version == same.version != two.version
