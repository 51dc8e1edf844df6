"""A node that states no version is known by its code: by all of it that can be seen."""

import importlib
import itertools
import subprocess
import sys
import textwrap

import pytest

import graphflow as gf
from graphflow.nodetype.source import code_digest

HELPER = "def double(x):\n    return 2 * x\n"
NODE = """
    from graphflow import node
    from .helper import double
    SCALE = 1
    def once(x):
        return x * SCALE
    @node("N")
    def n(value: int = 0) -> int:
        from .lazy import late
        return once(double(late(value)))
"""


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """`digest(node=..., helper=...)`: of node N of a package of these modules, each time another package."""
    monkeypatch.syspath_prepend(tmp_path)
    names = (f"pack{number}" for number in itertools.count())

    def find(node=NODE, helper=HELPER, lazy="def late(x):\n    return x\n", other="X = 1\n"):
        folder = tmp_path / next(names)
        folder.mkdir()
        files = {"__init__": "", "main": textwrap.dedent(node), "helper": helper, "lazy": lazy, "other": other}
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(f"{folder.name}.main").n.node_type.version

    yield find
    for name in [name for name in sys.modules if name.startswith("pack")]:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_same_code_is_the_same_in_another_process(digest, tmp_path):
    found = digest()
    code = "import pack0.main as m; print(m.n.node_type.version)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True).strip() == found


def test_any_change_of_the_code_that_can_matter_is_seen(digest):
    first = digest()
    assert first.startswith("s") and digest() == first
    assert digest(other="X = 2\n") == first, "a module that it does not import does not count"
    changed = [
        digest(node=NODE.replace("once(double", "double(once")),
        digest(node=NODE.replace("SCALE = 1", "SCALE = 2")),
        digest(node=NODE.replace("x * SCALE", "x + SCALE")),
        digest(helper=HELPER.replace("2 * x", "3 * x")),
        digest(lazy="def late(x):\n    return x + 1\n"),
        digest(helper="from .other import X\n" + HELPER),
    ]
    changed.append(digest(helper="from .other import X\n" + HELPER, other="X = 3\n"))
    assert len({first, *changed}) == len(changed) + 1


def test_a_stated_version_counts_instead_of_the_code(digest):
    stated = NODE.replace('@node("N")', '@node("N", version="7")')
    kinds = [digest(node=text) for text in (stated, stated.replace("SCALE = 1", "SCALE = 2"))]
    assert [kind.partition(" of ")[0] for kind in kinds] == ["v7", "v7"]
    assert kinds[0] != kinds[1], "but nodes of two packages are two"


def made(scale, helper=None, default=1):
    def work(value=default):
        return value * scale if helper is None else helper(value)

    return work


def digest_of(function):
    import time

    return code_digest(function, time.time())


def test_closures_and_defaults_count():
    def one(x):
        return x + 1

    def two(x):
        return x + 2

    plain = digest_of(made(1))
    assert digest_of(made(1)) == plain
    others = [made(2), made(1.0), made(1, one), made(1, two), made(1, default=2)]
    assert len({plain, *map(digest_of, others)}) == 6
    assert digest_of(made(1, made(5))) != digest_of(made(1, made(6)))


def test_a_closure_over_something_that_cannot_be_told_is_new_in_each_process():
    with open(__file__) as file:
        assert digest_of(made(file)) != digest_of(made(file))


def test_code_without_a_file_is_known_by_its_instructions_and_by_the_functions_that_it_calls():
    def function(text):
        space = {}
        exec(textwrap.dedent(text), space)
        return space["f"]

    base = "def g(x):\n    return x + 1\ndef f(x):\n    return g(x)\n"
    first = digest_of(function(base))
    assert digest_of(function(base)) == first
    assert digest_of(function(base.replace("x + 1", "x + 2"))) != first
    assert digest_of(function(base.replace("return g(x)", "return g(g(x))"))) != first
    assert digest_of(function("K = 1\n" + base.replace("x + 1", "x + K"))) != digest_of(
        function("K = 2\n" + base.replace("x + 1", "x + K"))
    )


def test_a_file_that_was_changed_after_it_was_loaded_is_never_a_hit_in_another_process(tmp_path):
    import os
    import time

    (tmp_path / "nodes.py").write_text(
        'from graphflow import node\n@node("N")\ndef n(value: int = 0) -> int:\n    return value\n'
    )
    os.utime(tmp_path / "nodes.py", (time.time() - 100,) * 2)

    def load():
        registry = gf.Registry()
        registry.add_folder(tmp_path)
        return registry["N"]

    one, two = load(), load()
    assert one.version == two.version
    three = load()
    os.utime(tmp_path / "nodes.py", (time.time() + 100,) * 2)
    assert three.version not in (one.version, load().version)


def test_an_edited_node_runs_again_and_explain_says_that_its_code_changed(tmp_path, graph):
    import os
    import time

    def engine(expression):
        (tmp_path / "nodes.py").write_text(
            "from graphflow import node, Ui\n"
            f'@node("Work", output=True)\ndef work(value: int = 3) -> Ui:\n    return Ui({{"value": [{expression}]}})\n'
        )
        os.utime(tmp_path / "nodes.py", (time.time() - 100,) * 2)
        registry = gf.Registry()
        registry.add_folder(tmp_path)
        return gf.Engine(registry, cache=gf.Cache(tmp_path / "cache"))

    workflow = graph(w=("Work", {}))
    with engine("value") as first:
        assert first.run(workflow)["w"].ui == {"value": [3]}
    with engine("value") as same:
        assert same.run(workflow).cached == ("w",)
    with engine("value + 1") as edited:
        assert "the code of the node changed" in str(edited.explain(workflow)[0])
        assert edited.run(workflow)["w"].ui == {"value": [4]}
