"""The document: reading, changing, saving; every way in which a file can be none."""

from __future__ import annotations

import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow import InvalidWorkflow, Problem, Workflow

NODES = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}, "_meta": {"title": "Load", "x": 1}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}, "is_changed": [1], "color": "#fff"},
    "7": {"class_type": "KSampler", "inputs": {}, "_meta": {"title": "Second pass"}},
}


def refused(text: str) -> Problem:
    with pytest.raises(InvalidWorkflow) as error:
        Workflow.loads(text)
    (problem,) = error.value.problems
    return problem


def test_unknown_keys_survive_a_load_and_a_save(tmp_path):
    data = {**NODES, "version": 3, "notes": ["by me"]}
    Workflow.from_json(data).save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == data
    assert Workflow.load(tmp_path / "a.json").to_json() == data


@given(
    st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.text() | st.lists(st.integers()), max_size=5)
)
def test_any_extra_keys_of_a_node_survive(extra):
    data = {"1": {**extra, "class_type": "X", "inputs": {"a": [extra]}}}
    assert Workflow.from_json(data).to_json() == data


def test_text_that_is_not_json_is_refused_with_line_and_column():
    assert refused('{"1": {\n  "class_type" "X"}}') == Problem(
        "not_json", "not JSON: Expecting ':' delimiter at line 2, column 16"
    )
    assert refused("").message == "not JSON: Expecting value at line 1, column 1"


def test_a_key_that_stands_twice_is_refused_because_a_node_would_be_lost():
    problem = refused('{"1": {"class_type": "X"}, "2": {"class_type": "X"}, "1": {"class_type": "Y"}}')
    assert (problem.code, problem.message) == ("duplicate_key", "the key '1' stands twice in one object")


def test_half_a_character_is_refused_and_a_whole_one_is_not():
    assert refused(r'{"1": {"class_type": "\ud83d"}}').code == "not_json"
    assert Workflow.loads(r'{"1": {"class_type": "\ud83d\ude00"}}')["1"].class_type == "😀"


@pytest.mark.parametrize("text", ["[]", "1", '"text"', "null", "true"])
def test_json_that_is_no_object_is_refused(text):
    assert refused(text).code == "not_a_workflow"


def test_an_empty_object_shows_what_a_node_looks_like():
    problem = refused("{}")
    assert problem.code == "empty_workflow" and "class_type" in problem.hint


def test_all_malformed_nodes_are_reported_at_once():
    with pytest.raises(InvalidWorkflow) as error:
        Workflow.from_json({"1": {"class_type": 7}, "2": {"inputs": {}}, "3": {"class_type": "X", "inputs": []}})
    assert [(p.node, p.code) for p in error.value.problems] == [
        ("1", "malformed_node"),
        ("2", "no_class_type"),
        ("3", "malformed_node"),
    ]
    assert error.value.problems[0].message == "its class_type is 7, expected the name of a node type"


def test_a_prompt_as_it_is_sent_to_a_server_is_read():
    assert dict(Workflow.from_json({"prompt": NODES, "client_id": "me"})) == dict(Workflow.from_json(NODES))


def test_what_is_beside_the_prompt_of_a_request_survives_a_load_and_a_save():
    data = Workflow.from_json({"prompt": {**NODES, "mine": 1}, "extra_data": {"a": 1}, "client_id": "me"}).to_json()
    assert data == {**NODES, "mine": 1, "extra_data": {"a": 1}, "client_id": "me"}
    assert Workflow.from_json(data).to_json() == data


def test_an_entry_called_prompt_beside_nodes_is_kept():
    data = {**NODES, "prompt": {"by": "me"}}
    assert Workflow.from_json(data).to_json() == data


@pytest.mark.parametrize("own", ["hello", {"title": "no title"}, None])
def test_a_key_of_a_node_called_meta_is_kept_and_is_not_its_title(own):
    data = {"1": {"class_type": "X", "meta": own}, "2": {"class_type": "X", "_meta": {"title": "T"}, "meta": own}}
    workflow = Workflow.from_json(data)
    assert workflow.to_json() == data
    assert (workflow["1"].title, workflow["2"].title) == (None, "T")
    assert workflow.set("1.a", 1).to_json()["1"] == {**data["1"], "inputs": {"a": 1}}


def test_a_node_called_prompt_is_a_node():
    assert list(Workflow.from_json({"prompt": {"class_type": "X"}})) == ["prompt"]


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path):
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(NODES).encode())
    assert Workflow.load(path).to_json() == NODES


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"\xff\xfe\x00", "not_json"), (b"\x89PNG\r\n\x1a\n", "no_workflow"), (b"\0" * 9, "not_json"), (b"", "not_json")],
)
def test_a_file_that_is_neither_json_nor_a_picture_with_a_workflow_is_refused(tmp_path, content, code):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidWorkflow) as error:
        Workflow.load(tmp_path / "file")
    assert error.value.problems[0].code == code


@pytest.mark.parametrize("name", ["nope.json", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(InvalidWorkflow) as error:
        Workflow.load(tmp_path / name)
    assert error.value.problems[0].code == "no_file"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt packed"])
def test_the_workflow_is_found_in_every_kind_of_text_chunk(tmp_path, kind):
    text = json.dumps(NODES).encode()
    body = {
        "tEXt": b"prompt\0" + text,
        "zTXt": b"prompt\0\0" + zlib.compress(text),
        "iTXt": b"prompt\0\0\0en\0Prompt\0" + text,
        "iTXt packed": b"prompt\0\1\0\0\0" + zlib.compress(text),
    }[kind]
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(kind[:4].encode(), body) + chunk(b"IEND", b"")
    )
    assert Workflow.load(path).to_json() == NODES


def test_set_gives_a_new_workflow_and_leaves_the_old_one():
    old = Workflow.from_json(NODES)
    new = old.set("Load.ckpt_name", "b")
    assert new["4"].inputs == {"ckpt_name": "b"} and old["4"].inputs == {"ckpt_name": "a"}
    assert new["3"] is old["3"]


@pytest.mark.parametrize("name", ["3.seed", "Second pass.seed", "7.seed"])
def test_a_node_is_named_by_id_or_title(name):
    node_id = Workflow.from_json(NODES).find(name.rpartition(".")[0])
    assert Workflow.from_json(NODES).set(name, 5)[node_id].inputs["seed"] == 5


def test_a_type_that_several_nodes_have_is_ambiguous_and_their_ids_are_told():
    with pytest.raises(InvalidWorkflow) as error:
        Workflow.from_json(NODES).set("KSampler.seed", 5)
    assert error.value.problems == (Problem("ambiguous", "2 nodes are called 'KSampler'", hint="name one by id: 3, 7"),)


def test_a_name_that_no_node_has_gets_the_nearest_ones():
    with pytest.raises(InvalidWorkflow) as error:
        Workflow.from_json(NODES).set("Secnd pass.seed", 5)
    assert error.value.problems[0] == Problem(
        "no_node", "no node is called 'Secnd pass'", hint="did you mean 'Second pass'?"
    )


def test_a_path_without_an_input_is_refused():
    with pytest.raises(InvalidWorkflow) as error:
        Workflow.from_json(NODES).set("seed", 5)
    assert error.value.problems[0].code == "bad_path"


def test_a_notebook_shows_a_workflow_as_a_graph():
    html = Workflow.from_json(NODES)._repr_html_()
    assert html.startswith("<svg") and "Second pass" in html and html.count('class="link"') == 1


def test_a_damaged_text_of_a_picture_is_told_with_its_name(tmp_path):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("prompt", '{"1": ')
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(InvalidWorkflow, match=r"in the text 'prompt' of the image .*a\.png: not JSON"):
        Workflow.load(tmp_path / "a.png")
