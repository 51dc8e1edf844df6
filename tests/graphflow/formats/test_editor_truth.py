"""Conversion equals what ComfyUI's own editor sends: templates, cases made by hand, and the rules one by one."""

from __future__ import annotations

from datetime import datetime

import pytest

from graphflow.formats.editor import to_api

from .editor_data import definition, essence, file, infos, node, recorded, template

UNKNOWN = {"unknown_node"}
"""What we refuse where the editor sends something that no server can run."""


@pytest.mark.parametrize("name", sorted(recorded("sent")))
def test_a_template_gives_what_the_editor_sends(name: str) -> None:
    converted = to_api(template(name), infos())
    assert not converted.problems
    assert essence(converted.api) == essence(recorded("sent")[name])


@pytest.mark.parametrize("name", sorted(set(recorded("edge_cases")) - UNKNOWN))
def test_a_case_made_by_hand_gives_what_the_editor_sends(name: str) -> None:
    case = recorded("edge_cases")[name]
    assert essence(to_api(case["file"], infos()).api) == essence(case["sent"])


def prompt(data: dict, **options) -> dict:  # type: ignore[type-arg]
    converted = to_api(data, infos(), **options)
    assert not converted.problems, converted.problems
    return converted.api


def inputs(data: dict, node_id: str, **options) -> dict:  # type: ignore[type-arg]
    return prompt(data, **options)[node_id]["inputs"]


def test_a_node_type_that_is_missing_is_named_with_its_place_and_the_pack_that_has_it() -> None:
    inner = node(5, "ShinyNode", properties={"cnr_id": "shiny-pack"})
    data = file(
        [node(1, "sub"), node(2, "Other", properties={"aux_id": "someone/nodes"}), node(3, "NoPack")],
        definitions={"subgraphs": [definition("sub", [], [], [inner], [])]},
    )
    found = [(problem.code, problem.node, problem.hint) for problem in to_api(data, infos()).problems]
    assert found == [
        ("unknown_node_type", "1:5", "the file names the pack 'shiny-pack' for it"),
        ("unknown_node_type", "2", "the file names the pack 'someone/nodes' for it"),
        ("unknown_node_type", "3", None),
    ]


def test_missing_node_types_that_are_muted_or_bypassed_do_no_harm() -> None:
    data = file(
        [node(1, "Gone", mode=2), node(2, "GoneToo", mode=4), node(3, "EmptyLatentImage", widgets_values=[8, 8, 1])]
    )
    assert list(prompt(data)) == ["3"]


def test_group_nodes_of_old_editors_and_missing_definitions_are_told_apart() -> None:
    data = file([node(1, "workflow>Mine"), node(2, "11111111-2222-4333-8444-555555555555")])
    assert [problem.code for problem in to_api(data, infos()).problems] == ["group_node", "no_definition"]


def test_too_few_stored_values_give_defaults_and_too_many_are_passed_over() -> None:
    assert inputs(file([node(1, "EmptyLatentImage", widgets_values=[640])]), "1") == {
        "width": 640,
        "height": 512,
        "batch_size": 1,
    }
    assert inputs(file([node(1, "EmptyLatentImage", widgets_values=[1, 2, 3, 4])]), "1") == {
        "width": 1,
        "height": 2,
        "batch_size": 3,
    }


def test_values_by_name_lose_to_values_by_place_as_in_the_editor_and_win_on_request() -> None:
    data = file(
        [node(1, "EmptyLatentImage", widgets_values=[16, 24, 1], widgets_values_named={"width": 32, "height": 24})]
    )
    converted = to_api(data, infos())
    assert converted.api["1"]["inputs"]["width"] == 16
    assert [(warning.code, warning.node) for warning in converted.warnings] == [("values_disagree", "1")]
    assert inputs(data, "1", prefer_named=True)["width"] == 32
    agreed = file([node(1, "EmptyLatentImage", widgets_values=[16], widgets_values_named={"width": 16})])
    assert not to_api(agreed, infos()).warnings


def test_values_by_name_are_right_where_the_file_knows_more_widgets_than_the_server() -> None:
    data = template("3d_hunyuan3d-v2.1")
    assert inputs(data, "19:1")["ckpt_name"] == 4096  # as the editor reads it
    assert inputs(data, "19:1", prefer_named=True)["ckpt_name"] == "hunyuan_3d_v2.1.safetensors"


def test_values_stored_as_an_object_count_for_packs_that_store_them_so() -> None:
    data = file([node(1, "EmptyLatentImage", widgets_values={"width": 64})])
    assert inputs(data, "1")["width"] == 512
    assert inputs(data, "1", prefer_named=True)["width"] == 64


def test_a_null_for_a_choice_takes_the_first_option_and_an_unknown_choice_is_kept() -> None:
    data = file([node(1, "KSampler", widgets_values=[1, "fixed", 2, 3, None, "no such scheduler", 1])])
    found = inputs(data, "1")
    assert (found["sampler_name"], found["scheduler"], found["denoise"]) == ("euler", "no such scheduler", 1)


def test_a_list_is_wrapped_so_that_it_is_no_link() -> None:
    data = file([node(1, "EmptyLatentImage", widgets_values=[["4", 0], 8, 1])])
    assert inputs(data, "1")["width"] == {"__value__": ["4", 0]}


def test_dynamic_choices_bring_their_inputs_and_only_those_that_are_linked_grow() -> None:
    resize = node(
        1, "ResizeImageMaskNode", [("input", "IMAGE", 7)], widgets_values=["scale total pixels", 1, "lanczos"]
    )
    batch = node(2, "BatchImagesNode", [("images.image3", "IMAGE", 8), ("images.image0", "IMAGE", None)])
    image = node(3, "LoadImage", outputs=["IMAGE", "MASK"], widgets_values=["a.png", "image"])
    found = prompt(file([resize, batch, image], [[7, 3, 0, 1, 0, "IMAGE"], [8, 3, 0, 2, 0, "IMAGE"]]))
    assert found["1"]["inputs"] == {
        "resize_type": "scale total pixels",
        "resize_type.megapixels": 1,
        "scale_method": "lanczos",
        "input": ["3", 0],
    }
    assert found["2"]["inputs"] == {"images.image3": ["3", 0]}
    assert found["3"]["inputs"] == {"image": "a.png"}


def test_a_choice_among_written_options_sends_its_number() -> None:
    data = file(
        [
            node(1, "CustomCombo", widgets_values=["b", 7, "a", "b", ""]),
            node(2, "CustomCombo", widgets_values=["x", 0, "a"]),
        ]
    )
    assert inputs(data, "1") == {"choice": "b", "index": 1, "option1": "a", "option2": "b", "option3": ""}
    assert inputs(data, "2")["index"] == -1


def test_names_of_files_are_filled_in_from_widgets_and_the_clock() -> None:
    sampler = node(3, "KSampler", widgets_values=[123, "fixed"], properties={"Node name for S&R": "KSampler"})
    titled = node(5, "CLIPTextEncode", title="My Words", widgets_values=["a/b: c?"])
    text = "x/%KSampler.seed%_%My Words.text%_%nosuch%_%date:yyyy-MM-dd_hhmmss%_%date:yy%_%width%"
    data = file([sampler, titled, node(9, "SaveImage", [("images", "IMAGE", None)], widgets_values=[text])])
    found = inputs(data, "9", now=datetime(2026, 3, 4, 5, 6, 7))["filename_prefix"]
    assert found == "x/123_a_b_ c__%nosuch%_2026-03-04_050607_26_%width%"


def test_words_are_chosen_the_same_way_each_time_and_comments_are_left_out() -> None:
    text = "a {red|{dark|light} blue} cat /* no\ndog */ \\{as is\\} // end"
    data = file([node(1, "CLIPTextEncode", widgets_values=[text])])
    found = {inputs(data, "1", seed=seed)["text"] for seed in range(40)}
    assert found == {f"a {colour} cat  {{as is}} " for colour in ("red", "dark blue", "light blue")}
    assert inputs(data, "1") == inputs(data, "1")
    assert inputs(file([node(1, "CLIPTextEncode", widgets_values=["open {a|b"])]), "1")["text"] == "open {a|b"


def test_what_old_editors_stored_for_inputs_that_are_sockets_by_decree_is_passed_over() -> None:
    forced = {
        "Old": {
            "input": {"required": {"text": ["STRING", {"forceInput": True}], "n": ["INT", {}], "s": ["STRING", {}]}}
        }
    }
    from graphflow.formats.object_info import read_all

    for values in (["", 7, "x"], [7, "x"]):
        data = file([node(1, "Old", widgets_values=values)])
        assert to_api(data, read_all(forced)).api["1"]["inputs"] == {"n": 7, "s": "x"}


def encoder(values: object, *more: object, **extra: object) -> dict:  # type: ignore[type-arg]
    """An instance of a subgraph that promotes the text of an encoder."""
    return node(
        6,
        "enc",
        [("clip", "CLIP", 1), ("text", "STRING", None, "text"), *more],
        ["CONDITIONING"],
        widgets_values=values,
        **extra,
    )


def encoders(instance: dict, *nodes: object, links: list = []) -> dict:  # type: ignore[type-arg] # noqa: B006
    inner = node(
        20,
        "CLIPTextEncode",
        [("clip", "CLIP", 51), ("text", "STRING", 52, "text")],
        ["CONDITIONING"],
        widgets_values=["inner"],
    )
    inside = definition(
        "enc",
        [("clip", "CLIP"), ("text", "STRING")],
        [("CONDITIONING", "CONDITIONING")],
        [inner],
        [(51, -10, 0, 20, 0), (52, -10, 1, 20, 1), (53, 20, 0, -20, 0)],
    )
    loader = node(4, "CheckpointLoaderSimple", outputs=["MODEL", "CLIP", "VAE"], widgets_values=["a"])
    return file([loader, instance, *nodes], [[1, 4, 1, 6, 0, "CLIP"], *links], definitions={"subgraphs": [inside]})


def test_a_promoted_widget_has_the_value_of_its_instance_and_null_is_a_value() -> None:
    assert inputs(encoders(encoder(["mine"])), "6:20") == {"text": "mine", "clip": ["4", 1]}
    assert inputs(encoders(encoder([])), "6:20")["text"] == "inner"
    assert inputs(encoders(encoder([None])), "6:20")["text"] is None


def test_two_instances_of_a_subgraph_keep_their_own_values() -> None:
    other = {**encoder(["other"]), "id": 7, "inputs": []}
    found = prompt(encoders(encoder(["mine"]), other))
    assert (found["6:20"]["inputs"]["text"], found["7:20"]["inputs"]["text"]) == ("mine", "other")


def test_a_link_into_a_promoted_input_wins_over_its_value() -> None:
    text = node(8, "PrimitiveStringMultiline", outputs=["STRING"], widgets_values=["linked"])
    data = encoders(encoder(["mine"]), text, links=[[2, 8, 0, 6, 1, "STRING"]])
    assert inputs(data, "6:20")["text"] == ["8", 0]


def test_a_primitive_into_a_promoted_input_leaves_the_inner_value_as_in_the_editor() -> None:
    primitive = node(8, "PrimitiveNode", outputs=["STRING"], widgets_values=["primitive"])
    data = encoders(encoder(["mine"]), primitive, links=[[2, 8, 0, 6, 1, "STRING"]])
    assert inputs(data, "6:20")["text"] == "inner"


def test_values_that_the_editor_set_aside_come_back() -> None:
    entry = {"originalEntry": ["-1", "text"], "hostValue": "set aside"}
    data = encoders(encoder(["mine"], properties={"proxyWidgetErrorQuarantine": [entry]}))
    assert inputs(data, "6:20")["text"] == "set aside"


@pytest.mark.parametrize("entry", [["20", "text"], ["-1", "text"], ["20", "3: text"]])
def test_widgets_shown_by_older_editors_take_the_values_of_the_instance(entry: list[str]) -> None:
    data = encoders(encoder(["shown"], properties={"proxyWidgets": [entry]}))
    assert inputs(data, "6:20")["text"] == "shown"


def test_a_shown_preview_is_no_value() -> None:
    instance = encoder([], properties={"proxyWidgets": [["20", "$$canvas-image-preview"], ["99", "gone"], "odd"]})
    instance["widgets_values"] = []
    assert inputs(encoders(instance), "6:20")["text"] == "inner"


def test_primitive_values_are_filled_in_where_the_node_asks_for_it() -> None:
    sampler = node(3, "KSampler", widgets_values=[77], properties={"Node name for S&R": "KSampler"})
    primitive = node(
        8,
        "PrimitiveNode",
        outputs=["STRING"],
        widgets_values=["seed %KSampler.seed%"],
        properties={"Run widget replace on values": True},
    )
    text = node(6, "CLIPTextEncode", [("text", "STRING", 1, "text")], widgets_values=["old"])
    assert inputs(file([sampler, primitive, text], [[1, 8, 0, 6, 0, "STRING"]]), "6")["text"] == "seed 77"


def test_a_switched_off_subgraph_is_left_out_at_the_root_and_only_there() -> None:
    muted = {**encoder(["mine"]), "mode": 2}
    assert list(prompt(encoders(muted))) == ["4"]


def test_links_as_objects_at_the_root_and_reroutes_that_are_only_drawn() -> None:
    data = file(
        [
            node(4, "CheckpointLoaderSimple", outputs=["MODEL", "CLIP"], widgets_values=["a"]),
            node(6, "CLIPTextEncode", [("clip", "CLIP", 3)], widgets_values=["t"]),
        ]
    )
    data |= {
        "version": 1,
        "state": {"lastNodeId": 9},
        "reroutes": [{"id": 1, "linkIds": [3], "pos": [0, 0]}],
        "links": [{"id": 3, "origin_id": 4, "origin_slot": 1, "target_id": 6, "target_slot": 0, "parentId": 1}],
    }
    assert inputs(data, "6") == {"text": "t", "clip": ["4", 1]}


def test_text_ids_are_kept() -> None:
    loader = node("a", "CheckpointLoaderSimple", outputs=["MODEL", "CLIP"], widgets_values=["x"])
    text = node("b", "CLIPTextEncode", [("clip", "CLIP", "l")], widgets_values=["t"])
    data = file([loader, text], [["l", "a", 1, "b", 0, "CLIP"]])
    assert inputs(data, "b")["clip"] == ["a", 1]


def test_titles_and_packs_are_kept_beside_the_nodes() -> None:
    size = node(1, "EmptyLatentImage", title="Size", properties={"cnr_id": "comfy-core", "ver": "0.3"})
    found = prompt(file([size, node(2, "CLIPTextEncode")]))
    assert found["1"]["_meta"] == {"title": "Size", "cnr_id": "comfy-core", "ver": "0.3"}
    assert found["2"]["_meta"] == {"title": "CLIP Text Encode (Prompt)"}
