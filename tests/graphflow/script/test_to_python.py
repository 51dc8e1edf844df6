"""`graphflow script`: the script of a workflow gives that workflow again."""

import json
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as gf
from graphflow.cli import main
from graphflow.formats.editor import to_api
from graphflow.script.to_python import to_python

ROOT = Path(__file__).parents[3]
TYPES = gf.Registry.installed()


def again(workflow):
    space: dict[str, Any] = {"__name__": "script"}
    exec(compile(to_python(workflow, TYPES), "script.py", "exec"), space)
    return space["g"].workflow


def same(one, other):
    return json.dumps(one.to_json(), sort_keys=True) == json.dumps(other.to_json(), sort_keys=True)


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_running_the_script_of_a_shipped_workflow_prints_the_same_json(path, tmp_path, capsys):
    """In this process, which has loaded the node types already; other tests here start one, as a user does."""
    script = tmp_path / "script.py"
    assert main(["script", str(path), "-o", str(script)]) == 0
    lacks_spandrel = "UpscaleModelLoader" in path.read_text() and find_spec("spandrel") is None
    assert ("g.add(" in script.read_text()) == lacks_spandrel, "a node that cannot run here is added as it is"
    capsys.readouterr()
    runpy.run_path(str(script), run_name="__main__")
    assert json.loads(capsys.readouterr().out) == gf.Workflow.load(path).to_json()


def test_a_file_of_the_editor_becomes_a_script_too(tmp_path, capsys):
    source = ROOT / "workflows" / "text_to_image.json"
    assert main(["convert", str(source), "--to", "ui", "-o", str(tmp_path / "ui.json")]) == 0
    capsys.readouterr()
    assert main(["script", str(tmp_path / "ui.json")]) == 0
    space: dict[str, Any] = {"__name__": "script"}
    exec(capsys.readouterr().out, space)
    assert space["g"].workflow["3"].inputs == gf.Workflow.load(source)["3"].inputs
    assert gf.Graph.load(tmp_path / "ui.json")["KSampler"].seed == gf.Place("3", "seed")


def test_the_script_reads_like_one_that_was_written_by_hand():
    text = to_python(gf.Workflow.load(ROOT / "workflows" / "text_to_image.json"), TYPES)
    assert 'model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny"' in text
    assert "positive=positive_prompt" in text and 'n.SaveImage(filename_prefix="apple", images=images' in text


def test_ids_that_come_by_themselves_and_inputs_left_out_stay_out():
    with gf.Graph() as g:
        gf.Nodes(TYPES).PreviewImage(images=gf.Nodes(TYPES).LoadImage(image="a.png").IMAGE)
    body = to_python(g.workflow, TYPES).split("with gf.Graph() as g:\n")[1].split("\n\n")[0]
    assert body == '    image, _ = n.LoadImage(image="a.png")\n    n.PreviewImage(images=image)'


def test_inputs_that_depend_on_what_is_given_become_arguments():
    n = gf.Nodes(TYPES)
    with gf.Graph() as g:
        image = n.EmptyImage(width=8, height=8)
        both = n.BatchImagesNode(images=[image, image])
        n.PreviewImage(images=n.ResizeImageMaskNode(input=both, resize_type="scale width", resize_type__width=16))
        n.PreviewAny(source=n.ComfyMathExpression(expression="a + c", values={"a": 1, "c": 2.5}).FLOAT)
    text = to_python(g.workflow, TYPES)
    assert "g.add(" not in text and same(again(g.workflow), g.workflow)
    assert "n.BatchImagesNode(images=[" in text and "resize_type__width=16" in text and "values__c=2.5" in text


def test_what_no_function_can_say_is_kept_as_it_stands():
    document = {
        "1": {"class_type": "Not Installed", "inputs": {"x": ["2", 7], "a b": 1.0}, "is_changed": [1]},
        "2": {"class_type": "KSampler", "inputs": {"seed": ["1", 0], "sampler_name": "nobody"}},
        "3": {"class_type": "PrimitiveInt", "_meta": {"title": "no inputs at all"}},
        "4": {"class_type": "PrimitiveFloat", "inputs": {"value": ["9", 0]}, "_meta": {"title": "x", "more": {}}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["1", 2]}, "_meta": {"title": 'quo"te\n\\'}},
        "version": {"is": None, "big": 1e308, "text": "é\u2028"},
    }
    workflow = gf.Workflow.from_json(document)
    assert same(again(workflow), workflow) and again(workflow).to_json() == document
    assert "images=node_not_installed" not in to_python(workflow, TYPES)


def test_a_folder_of_nodes_is_loaded_by_the_script(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from graphflow import node\n@node('Mine (v2)')\ndef mine(x: int = 3) -> int:\n    return x\n"
    )
    (tmp_path / "wf.json").write_text('{"1": {"class_type": "Mine (v2)", "inputs": {"x": 4}}}')
    assert main(["script", str(tmp_path / "wf.json"), "--nodes", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert 'n.Mine_v2(x=4, id="1")' in text
    space: dict[str, Any] = {"__name__": "script"}
    exec(text, space)
    assert space["g"].workflow.to_json() == json.loads((tmp_path / "wf.json").read_text())


def test_the_templates_that_people_share_come_back_from_their_scripts():
    templates = pytest.importorskip("comfyui_workflow_templates_json")
    infos = gf.Engine().infos
    count = 0
    for path in sorted(Path(templates.__file__).parent.rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "nodes" in data and (prompt := to_api(data, infos).api):
            workflow = gf.Workflow.from_json(prompt)  # with the node types that are not here, as far as they convert
            assert same(again(workflow), workflow), path.name
            count += 1
    assert count > 500


words = st.sampled_from(["1", "2", "3:4", "a b", "KSampler", "KSampler_2", "g", "class", "né", ""])
numbers = st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none()
atoms = numbers | st.text(max_size=8)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=4
)
link = st.tuples(words, st.integers(-1, 3)).map(list)


@st.composite
def nodes(draw):
    """Mostly nodes of installed types with right inputs, some with anything."""
    name = draw(st.sampled_from([*sorted(TYPES), "Not Installed"]))
    kind = TYPES.get(name)
    inputs = {}
    for item in kind.inputs.values() if kind else ():
        literal = values if draw(st.integers(0, 9)) == 0 else st.just(item.default if not item.required else "x")
        inputs[item.name] = draw(link if not item.has_widget or draw(st.integers(0, 4)) == 0 else literal)
    node = {"class_type": name, "inputs": {**inputs, **draw(st.dictionaries(words, values, max_size=1))}}
    if draw(st.booleans()):
        node["_meta"] = draw(st.fixed_dictionaries({"title": st.text(max_size=8)}) | st.dictionaries(words, values))
    return node


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(words, nodes(), min_size=1, max_size=6), st.dictionaries(words, values, max_size=2))
def test_any_workflow_comes_back_from_its_script(document, extra):
    workflow = gf.Workflow.from_json(
        {**{key: item for key, item in extra.items() if not isinstance(item, dict)}, **document}
    )
    assert same(again(workflow), workflow)


@pytest.mark.parametrize("text", ["a \U0001f600 cat\nline two", "\x7f\u2028\0 \t\\ \"'", "a\r\n\u200b\U000e0001"])
def test_a_text_of_any_letters_comes_back_from_a_script_on_the_disk(tmp_path, text):
    workflow = gf.Workflow.from_json({"1": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": text}}})
    script = tmp_path / "script.py"
    script.write_text(to_python(workflow, TYPES), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, check=True, timeout=120)
    assert json.loads(done.stdout.decode())["1"]["inputs"]["value"] == text


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_valid_graph_becomes_calls_only(data):
    """Chains of nodes with free ids and titles: nothing in them needs `g.add`."""
    n = gf.Nodes(TYPES)
    with gf.Graph() as g:
        value = n.EmptyLatentImage(width=64)
        for number in range(data.draw(st.integers(1, 6))):
            title = data.draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
            node_id = data.draw(st.none() | st.just(f"id{number}"))
            value = n.LatentUpscaleBy(samples=value, upscale_method="bilinear", id=node_id, title=title)
    assert "g.add(" not in to_python(g.workflow, TYPES) and same(again(g.workflow), g.workflow)
