"""What the digest of a node's code does not see (docs/cache.md lists it): a hit, where another result would be right.
And what could have been among it, and is a miss."""

import importlib
import sys

import pytest

import graphflow as gf

HEAD = "import os, pathlib, sys\nfrom graphflow import Context, Ui, node\nHERE = pathlib.Path(__file__).parent\n"
NODE = '@node("N", output=True{more})\ndef n({context}v: int = 3) -> Ui:\n    return Ui({{"v": [{expression}]}})\n'
WORKFLOW = {"n": {"class_type": "N", "inputs": {}}}


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """`shown(expression, "data", before="")`: what the node shows after a run that has a cache folder of its own."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "common")])

    def forget():
        for name, module in list(sys.modules.items()):
            if str(tmp_path) in str(getattr(module, "__file__", "")):
                del sys.modules[name]
        importlib.invalidate_caches()

    def run(expression, files=(), before="", more="", context="", project="project", workflow=WORKFLOW):
        forget()
        text = HEAD + before + NODE.format(expression=expression, more=more, context=context)
        for path, content in {f"{project}/nodes/n.py": text, **dict(files)}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            if not (tmp_path / path).exists() or (tmp_path / path).read_text() != content:
                (tmp_path / path).write_text(content)
        registry = gf.Registry()
        registry.add_folder(tmp_path / project / "nodes")
        assert not registry.problems
        with gf.Engine(registry, cache=gf.Cache(tmp_path / "cache")) as engine:
            result = engine.run(gf.Workflow.from_json(workflow))
        return result[next(iter(workflow))].ui["v"][0]

    yield run
    forget()


def test_a_file_that_a_call_reads_is_not_seen(shown):
    reads = '(HERE / "data.txt").read_text()'
    assert shown(reads, {"project/nodes/data.txt": "one"}) == "one"
    assert shown(reads, {"project/nodes/data.txt": "two"}) == "one"
    stated = ', outside=lambda settings, **_: (HERE / "data.txt").read_text()'
    assert shown(reads, {"project/nodes/data.txt": "two"}, more=stated) == "two"
    assert shown(reads, {"project/nodes/data.txt": "three"}, more=stated) == "three"


def test_an_environment_variable_that_a_call_reads_is_not_seen(shown, monkeypatch):
    monkeypatch.setenv("OF_NODE", "one")
    assert shown('os.environ["OF_NODE"]') == "one"
    monkeypatch.setenv("OF_NODE", "two")
    assert shown('os.environ["OF_NODE"]') == "one"
    assert shown("KEPT", before='KEPT = os.environ["OF_NODE"]\n') == "two"
    monkeypatch.setenv("OF_NODE", "three")
    assert shown("KEPT", before='KEPT = os.environ["OF_NODE"]\n') == "three", "a variable of the module is seen"


def test_a_variable_of_a_module_that_a_call_imports_is_not_seen_but_its_text_is(shown, monkeypatch):
    late = "def late():\n    import helper_of_call\n    return helper_of_call.K\n"
    helper = {"common/helper_of_call.py": "import os\nK = os.environ['OF_NODE']\n"}
    monkeypatch.setenv("OF_NODE", "one")
    assert shown("late()", helper, late) == "one"
    monkeypatch.setenv("OF_NODE", "two")
    assert shown("late()", helper, late) == "one"
    assert shown("late()", {"common/helper_of_call.py": "import os\nK = os.environ['OF_NODE'] + '!'\n"}, late) == "two!"


def test_what_changes_in_a_stated_version_beside_its_text_is_not_seen(shown):
    reads = "K"
    before = 'K = (HERE / "data.txt").read_text()\n'
    assert shown(reads, {"project/nodes/data.txt": "one"}, before, ', version="1"') == "one"
    assert shown(reads, {"project/nodes/data.txt": "two"}, before, ', version="1"') == "one"
    assert shown(reads, {}, before, ', version="2"') == "two"


def test_a_variable_that_changes_after_the_first_run_of_the_process_is_not_seen(graph, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "n.py").write_text(HEAD + "K = [1]\n" + NODE.format(expression="K[0]", more="", context=""))
    registry = gf.Registry()
    registry.add_folder(tmp_path)
    with gf.Engine(registry, cache=gf.Cache()) as engine:
        for value in (1, 2):
            sys.modules["graphflow_pack_n"].K[0] = value
            assert engine.run(gf.Workflow.from_json(WORKFLOW))["n"].ui == {"v": [1]}


@pytest.mark.parametrize("more", ["", ', version="1"'])
def test_two_projects_with_one_file_of_nodes_and_other_data_beside_it_share_nothing(shown, more):
    for project in ("one", "two"):
        data = {f"{project}/nodes/data.txt": project}
        assert shown('(HERE / "data.txt").read_text()', data, more=more, project=project) == project
        assert shown("K", data, 'K = (HERE / "data.txt").read_text()\n', more, project=project) == project


@pytest.mark.parametrize(
    "expression",
    ["c.node_id", "sorted(c.graph)", "(c.call, c.node_id)", "getattr(c, 'node_id')", "c.within(0).node_id"],
)
def test_a_node_that_returns_where_it_stands_is_never_a_wrong_hit(shown, expression):
    for key in ("a", "b", "a"):
        found = shown(f"str({expression})", context="c: Context, ", workflow={key: WORKFLOW["n"]})
        assert key in found


def test_what_stands_on_a_node_that_returns_where_it_stands_is_known_by_content(graph):
    calls = []

    @gf.node("Where", version="1")
    def where(context: gf.Context) -> str:
        return context.node_id[:1]

    @gf.node("Show", version="1", output=True)
    def show(v: str) -> gf.Ui:
        calls.append(v)
        return gf.Ui({"v": [v]})

    with gf.Engine(gf.Registry([where, show]), cache=gf.Cache()) as engine:
        for key in ("a1", "a2", "b"):
            workflow = gf.Workflow.from_json(
                {
                    key: {"class_type": "Where", "inputs": {}},
                    "s": {"class_type": "Show", "inputs": {"v": [key, 0]}},
                }
            )
            assert engine.run(workflow)["s"].ui == {"v": [key[:1]]}
    assert calls == ["a", "b"]


def test_a_node_that_reports_its_progress_is_kept(shown, tmp_path):
    for _ in range(2):
        shown("(c.progress(1, 2), c.say('x'), open(HERE / 'count', 'a').write('.'))[2]", context="c: Context, ")
    assert (tmp_path / "project" / "nodes" / "count").read_text() == "."
