"""Packs written for ComfyUI's own program load unmodified and their nodes do what they do there."""

import subprocess
import sys
import warnings

import pytest
import torch
from PIL import Image

import graphflow as gf
from graphflow.events import Message, NodeDone, NodeStarted, Progress
from graphflow.formats.object_info import describe

from ...graphs import graph
from .conftest import PACKS


def shown(engine, **nodes):
    return engine.run(graph(**nodes, out=("Old Show", {"value": "@last"}))).nodes["out"].ui["text"]


# -- loading
# ------------------------------------------------------------------------------------------------------------


def test_a_pack_that_fails_is_reported_with_its_traceback_and_the_others_work(registry):
    failed = [problem for problem in registry.problems if "broken" in problem.message]
    assert len(failed) == 1 and failed[0].code == "pack_failed"
    assert "a_package_that_does_not_exist" in failed[0].hint and "__init__.py" in failed[0].hint
    assert "Old Brighten" in registry and "NewShout" in registry


def test_a_node_class_that_cannot_say_what_it_is_leaves_the_rest_of_its_pack(registry):
    failed = [problem for problem in registry.problems if "Old Broken" in problem.message]
    assert len(failed) == 1 and "no idea" in failed[0].message
    assert "Old Broken" not in registry


def test_the_helper_modules_are_there_only_while_foreign_packs_are(tmp_path):
    (tmp_path / "ours.py").write_text(
        "from graphflow import node\n@node('Ours')\ndef ours(a: int = 1) -> int:\n    'Ours.'\n    return a\n"
    )
    code = (
        "import sys, graphflow as gf\n"
        f"gf.Registry.installed([{str(tmp_path)!r}])\n"
        "try:\n    import folder_paths\nexcept ImportError: print('absent')\n"
        f"gf.Registry.installed([{str(PACKS)!r}])\n"
        "import folder_paths; print('there')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert run.stdout.split() == ["absent", "there"], run.stderr


def test_scripts_that_a_pack_brings_for_the_editor_are_known(registry):
    assert (registry.web["old_style"] / "hello.js").is_file()


# -- the old style
# ------------------------------------------------------------------------------------------------------


def test_a_node_gets_pictures_in_the_usual_shape_and_cannot_change_what_others_see(engine):
    events = []
    workflow = graph(
        empty=("EmptyLatentImage", {"width": 64, "height": 64}),
        picture=("Old Scale", {"image": "@source", "width": 4}),
        source=("Old Scale", {"image": "@load", "width": 8}),
        load=("LoadImage", {"image": "x.png"}),
        bright=("Old Brighten", {"image": "@source", "factor": 2, "mode": "clamp"}),
        a=("Old Save", {"images": "@source", "filename_prefix": "a"}),
        b=("Old Save", {"images": "@bright", "filename_prefix": "b"}),
        width=("Old Show", {"value": "@bright:1"}),
    )
    Image.new("RGB", (8, 8), (60, 60, 60)).save(engine.settings.input_dir / "x.png")
    result = engine.run(workflow, on_event=events.append)
    with Image.open(engine.settings.output_dir / "a_00001_.png") as picture:
        assert picture.getpixel((0, 0)) == (60, 60, 60) and "prompt" in picture.text
    with Image.open(engine.settings.output_dir / "b_00001_.png") as picture:
        assert picture.getpixel((0, 0)) == (120, 120, 120)
    assert result.nodes["width"].ui["text"] == ["8"]
    assert [(event.step, event.total) for event in events if isinstance(event, Progress)] == [(1, 2), (2, 2)]


def test_hidden_inputs_and_messages_arrive(engine):
    events = []
    workflow = graph(last=("Old Text", {"text": "x"}), out=("Old Show", {"value": "@last"}))
    result = engine.run(workflow, on_event=events.append, extra_pnginfo={"workflow": {}})
    assert result.nodes["out"].ui == {
        "text": ["x"],
        "id": ["out"],
        "known": [True],
        "info": [["workflow"]],
        "bare": [False],
    }
    assert [(event.type, event.data) for event in events if isinstance(event, Message)] == [
        ("old.shown", {"node": "out"})
    ]


def test_without_metadata_a_pack_hears_so_and_gets_nothing_to_embed(registry, tmp_path):
    engine = gf.Engine(registry, gf.Settings(output_dir=tmp_path, metadata=False))
    workflow = graph(last=("Old Text", {"text": "x"}), out=("Old Show", {"value": "@last"}))
    shown = engine.run(workflow, extra_pnginfo={"workflow": {}}).nodes["out"].ui
    assert shown["info"] == [[]] and shown["bare"] == [True]


def test_an_instance_lives_on_and_nan_means_that_it_always_runs(engine):
    nodes = {"last": ("Old Count", {"start": 10})}
    assert [shown(engine, **nodes) for _ in range(3)] == [["11"], ["12"], ["13"]]


def test_a_file_that_is_changed_counts_and_one_that_is_not_there_is_refused(engine):
    path = engine.settings.input_dir / "a.txt"
    path.write_text("one")
    workflow = graph(last=("Old ReadFile", {"name": "a.txt"}), out=("Old Show", {"value": "@last"}))
    assert engine.run(workflow).nodes["out"].ui["text"] == ["one"]
    path.write_text("two")
    assert engine.run(workflow).nodes["out"].ui["text"] == ["two"]
    (problem,) = engine.validate(workflow.set("last.name", "b.txt"))
    assert problem.message == "there is no file b.txt" and problem.input == "name"


def test_choices_follow_the_folder(engine):
    (engine.settings.input_dir / "new.txt").write_text("")
    kind = engine.registry["Old ReadFile"]
    assert list(kind.inputs["name"].choice.names(engine.settings)) == ["new.txt"]


def test_what_a_pack_requires_is_given_by_the_workflow_and_a_script_begins_with_the_defaults(engine):
    """A workflow that leaves it out is wrong to ComfyUI's program; what a node would have been given is not
    guessed."""
    (problem,) = engine.validate(graph(a=("Old Text", {}), b=("Old Show", {"value": "@a"})))
    assert (problem.code, problem.node, problem.input) == ("missing_input", "a", "text")
    assert problem.hint == "an editor begins with 'hello'"
    n = gf.Nodes(engine.registry)
    with gf.Graph() as made:
        n.Old_Show(value=n.Old_Text(id="a"))
    assert made.workflow["a"].inputs == {"text": "hello"} and engine.validate(made.workflow) == []


def test_a_lazy_input_is_computed_only_if_asked_for(engine):
    assert shown(
        engine,
        a=("Old Text", {"text": "good"}),
        b=("Old Fails", {}),
        last=("Old Choose", {"which": True, "yes": "@a", "no": "@b"}),
    ) == ["good"]
    with pytest.raises(gf.NodeFailed, match="it never works"):
        shown(
            engine,
            a=("Old Text", {"text": "a"}),
            b=("Old Fails", {}),
            last=("Old Choose", {"which": False, "yes": "@a", "no": "@b"}),
        )


def test_a_blocker_stops_what_follows(engine):
    result = engine.run(
        graph(gate=("Old Gate", {"value": 1, "open": False, "say": ""}), out=("Old Show", {"value": "@gate"}))
    )
    assert result.nodes["out"].ui == {}
    with pytest.raises(gf.NodeFailed, match="not now"):
        engine.run(
            graph(
                gate=("Old Gate", {"value": 1, "open": False, "say": "not now"}), out=("Old Show", {"value": "@gate"})
            )
        )


def test_lists_are_mapped_and_gathered(engine):
    assert shown(
        engine,
        text=("Old Text", {"text": "a b c"}),
        words=("Old Split", {"text": "@text"}),
        loud=("Old Join", {"a": "@words", "b": "!"}),
        last=("Old Gather", {"words": "@loud", "separator": "+"}),
    ) == ["a!+b!+c!"]


def test_expansion_loops(engine):
    assert shown(engine, last=("Old Repeat", {"text": "ab", "times": 40})) == ["ab" * 40]


def test_inputs_that_are_not_declared_arrive(engine):
    assert shown(
        engine, x=("Old Text", {"text": "x"}), last=("Old Join", {"a": "1", "b": "2", "more_2": "@x", "more_1": 5})
    ) == ["125x"]


def test_async_nodes_of_a_pack_run_side_by_side(engine):
    names = [f"w{i}" for i in range(8)]
    nodes = {name: ("Old Wait", {"seconds": 0.5 + i / 1000}) for i, name in enumerate(names)}
    shows = {f"s{name}": ("Old Show", {"value": f"@{name}"}) for name in names}
    events = []
    engine.run(graph(**nodes, **shows), on_event=events.append)
    ended = next(i for i, event in enumerate(events) if isinstance(event, NodeDone))
    assert {event.node for event in events[:ended] if isinstance(event, NodeStarted)} == set(names)


def test_a_pack_is_described_as_the_field_does(registry, engine):
    told = describe(registry["Old Brighten"], engine.settings)
    assert told["input"]["required"]["image"][0] == "IMAGE"
    assert told["input"]["required"]["factor"] == [
        "FLOAT",
        {"default": 1.5, "min": 0.0, "max": 4.0, "step": 0.1, "tooltip": "how much"},
    ]
    assert told["input"]["required"]["mode"][0] == ["clamp", "wrap"]
    assert told["output_name"] == ["picture", "width"] and told["display_name"] == "Brighten (old)"
    assert told["python_module"] == "custom_nodes.old_style"
    assert describe(registry["Old Show"], engine.settings)["input"]["hidden"]["id"] == "UNIQUE_ID"
    assert "euler" in describe(registry["Old Sampler"], engine.settings)["input"]["required"]["sampler"][0]


def test_a_change_in_the_source_of_a_pack_makes_its_nodes_new(tmp_path):
    source = (
        "class A:\n    RETURN_TYPES = ('INT',)\n    FUNCTION = 'go'\n"
        "    @classmethod\n    def INPUT_TYPES(s): return {'required': {}}\n    def go(self): return (helper(),)\n"
        "def helper(): return 1\nNODE_CLASS_MAPPINGS = {'A': A}\n"
    )
    (tmp_path / "p.py").write_text(source)
    first = gf.Registry.installed([tmp_path])["A"].version
    (tmp_path / "p.py").write_text(source.replace("return 1", "return 2"))
    assert gf.Registry.installed([tmp_path])["A"].version != first


def test_only_a_pack_that_names_the_key_may_expand(tmp_path):
    source = (
        "class A:\n    RETURN_TYPES = ('INT',)\n    FUNCTION = 'go'\n"
        "    @classmethod\n    def INPUT_TYPES(s): return {'required': {}}\n    def go(self): return {RESULT}\n"
        "NODE_CLASS_MAPPINGS = {'A': A}\n"
    )
    for result, expands in (("(x.expand(1, 2),)", False), ("{'result': (1,), 'expand': {}}", True)):
        (tmp_path / "p.py").write_text(source.replace("{RESULT}", result))
        assert gf.Registry.installed([tmp_path])["A"].expands is expands


# -- the newer style
# ----------------------------------------------------------------------------------------------------


def test_a_schema_becomes_a_node(engine):
    result = engine.run(
        graph(
            s=("NewShout", {"text": "ab", "case": "upper", "times": 2, "loud": True}),
            a=("Old Show", {"value": "@s"}),
            b=("Old Show", {"value": "@s:1"}),
        )
    )
    assert result.nodes["a"].ui["text"] == ["ABAB!"] and result.nodes["b"].ui["text"] == ["5"]
    (problem,) = engine.validate(
        graph(s=("NewShout", {"text": "", "case": "upper", "times": 1}), a=("Old Show", {"value": "@s"}))
    )
    assert problem.message == "say something" and problem.input == "text"


def test_its_fingerprint_decides_whether_it_runs_again(engine):
    def started(text):
        events = []
        workflow = graph(s=("NewShout", {"text": text, "case": "upper", "times": 1}), a=("Old Show", {"value": "@s"}))
        engine.run(workflow, on_event=events.append)
        return [event.node for event in events if isinstance(event, NodeStarted)]

    assert started("abc") == ["s", "a"]
    assert started("abc") == []
    assert "s" in started("abd")


def test_switch_autogrow_and_dynamic_combo(engine):
    def text(**nodes):
        return shown(engine, **nodes)

    parts = {"parts.part0": "@a", "parts.part1": "@b", "how": "join"}
    a, b = ("Old Text", {"text": "a"}), ("Old Text", {"text": "b"})
    assert text(a=a, b=b, last=("NewMany", parts)) == ["a+b"]
    assert text(a=a, b=b, last=("NewMany", {**parts, "how.separator": "|"})) == ["a|b"]
    assert text(a=a, b=b, last=("NewMany", {**parts, "how": "count", "numbers.b": 3})) == [
        "['part0', 'part1'] {'b': 3}"
    ]
    assert text(a=a, f=("Old Fails", {}), last=("NewSwitch", {"switch": True, "on_true": "@a", "on_false": "@f"})) == [
        "a"
    ]


def test_pictures_are_saved_with_the_workflow_and_texts_are_shown(engine):
    Image.new("RGB", (4, 4), (9, 9, 9)).save(engine.settings.input_dir / "x.png")
    workflow = graph(
        load=("LoadImage", {"image": "x.png"}),
        save=("NewSave", {"images": "@load", "prefix": "new"}),
        show=("NewPreview", {"value": 5}),
    )
    result = engine.run(workflow)
    (image,) = result.nodes["save"].ui["images"]
    assert image == {"filename": "new_00001_.png", "subfolder": "", "type": "output"}
    with Image.open(engine.settings.output_dir / "new_00001_.png") as picture:
        assert "prompt" in picture.text
    assert result.nodes["show"].ui["text"] == ("5 None",)


def test_its_description_has_the_shapes_that_an_editor_reads(registry, engine):
    told = describe(registry["NewMany"], engine.settings)["input"]["required"]
    assert told["parts"][0] == "COMFY_AUTOGROW_V3" and told["parts"][1]["template"]["prefix"] == "part"
    assert told["how"][0] == "COMFY_DYNAMICCOMBO_V3" and [o["key"] for o in told["how"][1]["options"]] == [
        "join",
        "count",
    ]
    switch = describe(registry["NewSwitch"], engine.settings)
    assert switch["output"] == ["COMFY_MATCHTYPE_V3"] and switch["output_matchtypes"] == ["switch"]


# -- helpers
# ------------------------------------------------------------------------------------------------------------


def test_paths_never_lead_out_of_their_folder(registry, tmp_path):
    import folder_paths

    for name in ("../x", "/etc/passwd", "a/../../x", "\0../x"):
        with pytest.raises(gf.GraphFlowError):
            folder_paths.get_annotated_filepath(name)
        assert not folder_paths.exists_annotated_filepath(name)
        with pytest.raises(gf.GraphFlowError):
            folder_paths.get_save_image_path(name if name != "\0../x" else "../x", str(tmp_path))


def test_tiles_blend_into_the_whole(registry):
    import comfy.utils

    x = torch.rand(2, 3, 40, 56)
    got = comfy.utils.tiled_scale(x, lambda tile: tile.repeat_interleave(2, -1).repeat_interleave(2, -2), 16, 16, 4, 2)
    torch.testing.assert_close(got, x.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_a_checkpoint_with_code_in_it_is_not_loaded(registry, tmp_path):
    import pickle

    import comfy.utils

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "x.ckpt").write_bytes(pickle.dumps(Evil()))
    with warnings.catch_warnings(action="ignore"), pytest.raises(pickle.UnpicklingError):
        comfy.utils.load_torch_file(str(tmp_path / "x.ckpt"))
