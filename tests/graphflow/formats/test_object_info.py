"""Node types in the shape of ComfyUI's /object_info, and back."""

import json
from pathlib import Path
from typing import Annotated

from graphflow import Choice, Help, Image, Latent, Lazy, Multiline, Range, Registry, Seed, Settings, Upload, Wire, node
from graphflow.formats.editor import to_api
from graphflow.formats.object_info import InputInfo, NodeInfo, RegistryInfos, describe, describe_all, read_all


@node("Everything", category="a/b", display_name="All There Is", output=True)
def everything(
    image: Image,
    seed: Annotated[int, Range(0, 2**64 - 1), Seed()] = 3,
    share: Annotated[float, Range(0, 1, 0.01), Help("how much")] = 0.5,
    text: Annotated[str, Multiline()] = "",
    mode: Annotated[str, Choice(("a", "b"))] = "b",
    file: Annotated[str, Choice(lambda settings: [settings.input_dir.name]), Upload()] = "x",
    mask: Lazy[Image] | None = None,
    samples: Latent | None = None,
) -> Image:
    """Does it all."""
    return image


def test_a_node_type_is_described_as_the_field_describes_it() -> None:
    found = describe(everything.node_type, Settings(input_dir=Path("pictures")))
    assert found["input"]["required"] == {
        "image": ["IMAGE", {}],
        "seed": ["INT", {"default": 3, "min": 0, "max": 2**64 - 1, "control_after_generate": True}],
        "share": ["FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": "how much"}],
        "text": ["STRING", {"default": "", "multiline": True}],
        "mode": [["a", "b"], {"default": "b"}],
        "file": [["pictures"], {"default": "x", "image_upload": True}],
    }
    assert list(found["input"]["optional"]) == ["mask", "samples"]
    assert found["input_order"]["required"] == ["image", "seed", "share", "text", "mode", "file"]
    assert (found["output"], found["output_name"], found["output_is_list"]) == (["IMAGE"], ["IMAGE"], [False])
    assert (found["name"], found["display_name"], found["category"]) == ("Everything", "All There Is", "a/b")
    assert (found["description"], found["output_node"], found["python_module"]) == ("Does it all.", True, "nodes")


def test_a_choice_that_takes_another_type_by_link_has_the_widget_of_a_choice() -> None:
    @node("Deep")
    def deep(bits: Annotated[object, Wire("COMBO,INT"), Choice(("auto", 8, 10))] = "auto") -> Image: ...

    described = describe(deep.node_type, Settings())
    spec = ["COMBO,INT", {"default": "auto", "options": ["auto", 8, 10], "widgetType": "COMBO"}]
    assert described["input"]["required"] == {"bits": spec}
    info = NodeInfo.read("Deep", described)
    for bits in ("auto", 10):
        assert to_api({"nodes": [{"id": 1, "type": "Deep", "widgets_values": [bits]}]}, {"Deep": info}).api["1"][
            "inputs"
        ] == {"bits": bits}


def test_all_installed_node_types_are_described_in_json_that_reads_back_the_same() -> None:
    registry, settings = Registry.installed(), Settings()
    text = json.dumps(describe_all(registry, settings))
    assert read_all(json.loads(text)) == dict(RegistryInfos(registry, settings))
    assert {"KSampler", "SaveImage"} <= set(registry)


def test_node_types_of_a_folder_are_marked_as_foreign(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        'from graphflow import node\n@node("Mine")\ndef mine(n: int = 1) -> int:\n    return n\n', encoding="utf-8"
    )
    registry = Registry()
    registry.add_folder(tmp_path)
    found = describe(registry["Mine"], Settings())
    assert found["python_module"] == "custom_nodes.mine"
    assert found["category"] == "other", "without one the editor would call it deprecated"


def test_order_of_inputs_is_the_stated_one_then_that_of_the_keys_and_hidden_ones_do_not_count() -> None:
    spec = ["INT", {}]
    data = {
        "input": {
            "required": {"a": spec, "b": spec, "c": spec},
            "optional": {"d": [["x", "y"]]},
            "hidden": {"e": spec},
        },
        "input_order": {"required": ["c", "a", "gone"]},
    }
    inputs = NodeInfo.read("N", data).inputs
    assert [item.name for item in inputs] == ["c", "a", "b", "d"]
    assert inputs[3] == InputInfo("d", "COMBO", {"options": ["x", "y"]}, required=False)


def test_a_damaged_description_is_read_as_far_as_it_goes() -> None:
    data = {
        "A": 3,
        "B": {
            "input": {"required": {"x": [], "y": 4, "z": [{"no": 1}], "ok": ["INT"]}, "optional": []},
            "output": [["u", "v"], 7],
            "output_name": ["only"],
            "display_name": 5,
        },
    }
    found = read_all(data)
    assert list(found) == ["B"]
    assert [item.name for item in found["B"].inputs] == ["ok"]
    assert found["B"].display_name == "B"
    assert [(out.name, out.type) for out in found["B"].outputs] == [("only", "COMBO"), ("COMBO", "COMBO")]


def test_a_node_type_without_a_category_has_one_in_the_editor():
    @node("Homeless")
    def homeless(a: int = 1) -> int:
        """A number."""
        return a

    assert describe(homeless.node_type, Settings())["category"] == "other"
