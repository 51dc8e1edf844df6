"""All images of a folder as one batch."""

import pytest
import torch
from graphflow_nodes.files.image_folders import folder_names
from graphflow_nodes.library.image_folders import load_image_set_from_folder
from PIL import Image

import graphflow as gf


@pytest.fixture
def settings(tmp_path):
    for name, size, colour in (
        ("set/b.jpg", (20, 10), "blue"),
        ("set/a.png", (16, 16), "red"),
        ("set/more/c.webp", (8, 8), "lime"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(tmp_path / name, quality=95)
    (tmp_path / "set" / "notes.txt").write_text("no image")
    Image.new("RGB", (4, 4)).save(tmp_path / "alone.png")
    return gf.Settings(input_dir=tmp_path, output_dir=tmp_path / "out")


def test_folders_with_images_are_listed(settings):
    assert folder_names(settings) == ["set", "set/more"]


@pytest.mark.parametrize("method", ["Stretch", "Crop", "Pad"])
def test_images_come_in_the_order_of_their_names_in_the_size_of_the_first(settings, method):
    found = load_image_set_from_folder(settings, "set", method)
    assert found.shape == (2, 16, 16, 3)
    assert torch.equal(found[0, 8, 8], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.allclose(found[1, 8, 8], torch.tensor([0.0, 0.0, 1.0]), atol=0.02)
    corner = [0.0, 0.0, 0.0] if method == "Pad" else [0.0, 0.0, 1.0]
    assert torch.allclose(found[1, 0, 0], torch.tensor(corner), atol=0.02)


def test_sizes_that_differ_are_refused_without_a_method(settings):
    with pytest.raises(gf.GraphFlowError, match=r"set/b.jpg has 20 x 10 pixels, set/a.png 16 x 16"):
        load_image_set_from_folder(settings, "set")


def test_a_folder_is_read_again_when_an_image_in_it_changes_or_comes(settings):
    workflow = gf.Workflow.from_json(
        {
            "1": {
                "class_type": "LoadImageSetFromFolderNode",
                "inputs": {"folder": "set/more", "resize_method": "Crop"},
            },
            "2": {"class_type": "GetImageSize", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 2]}},
        }
    )
    with gf.Engine(settings=settings) as engine:
        assert engine.run(workflow)["3"].ui["text"] == ["1"]
        assert "1" not in engine.run(workflow).timings
        Image.new("RGB", (8, 8)).save(settings.input_dir / "set" / "more" / "d.png")
        assert engine.run(workflow)["3"].ui["text"] == ["2"]


def test_a_folder_without_images_is_named_before_the_run(settings):
    (settings.input_dir / "empty").mkdir()
    workflow = gf.Workflow.from_json(
        {
            "1": {"class_type": "LoadImageSetFromFolderNode", "inputs": {"folder": "empty"}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }
    )
    with gf.Engine(settings=settings) as engine, pytest.raises(gf.InvalidWorkflow, match="empty"):
        engine.run(workflow)
