"""Packs from the package index, as they are published."""

from pathlib import Path

import pytest
from PIL import Image

import graphflow as gf
from graphflow.foreign import load_pack

PUBLISHED = Path(__file__).parent / "published"


def pack_of(path: str) -> Path:
    if not (PUBLISHED / path).exists():
        pytest.skip("the packs are absent; get them with: tests/graphflow/foreign/install")
    return PUBLISHED / path


def test_a_pack_that_loads_pictures_by_path_runs(tmp_path):
    pack = load_pack(pack_of("ComfyUI_Ib_CustomNodes"))
    assert not pack.problems and {"LoadImageFromPath", "ImageToPIL", "PILToImage"} <= pack.types.keys()
    registry = gf.Registry.installed()
    registry.update(pack.types)
    settings = gf.Settings(output_dir=tmp_path / "output", input_dir=tmp_path)
    Image.new("RGB", (6, 5), (51, 102, 204)).save(tmp_path / "x.png")
    workflow = gf.Workflow.from_json(
        {
            "load": {"class_type": "LoadImageFromPath", "inputs": {"image": "x.png"}},
            "there": {"class_type": "ImageToPIL", "inputs": {"images": ["load", 0]}},
            "back": {"class_type": "PILToImage", "inputs": {"images": ["there", 0]}},
            "save": {"class_type": "SaveImage", "inputs": {"images": ["back", 0], "filename_prefix": "y"}},
        }
    )
    with gf.Engine(registry, settings) as engine:
        engine.run(workflow)
        with Image.open(tmp_path / "output" / "y_00001_.png") as picture:
            assert picture.size == (6, 5) and picture.getpixel((2, 2)) == (51, 102, 204)
        (problem,) = engine.validate(workflow.set("load.image", "z.png"))
        assert problem.node == "load" and "Invalid image path" in problem.message


@pytest.mark.parametrize(("path", "name"), [("nodes/arc_save.py", "ARCSave"), ("kumiho_nodes", "KumihoSaveImage")])
def test_a_pack_that_talks_to_a_service_loads_and_is_described(path, name):
    from graphflow.formats.object_info import describe

    pytest.importorskip("requests", reason="these packs need requests")
    pack = load_pack(pack_of(path))
    assert not pack.problems and pack.is_foreign
    told = describe(pack.types[name], gf.Settings())
    assert told["output_node"] and "images" in told["input"]["required"] | told["input"].get("optional", {})
