"""A result that was read from a file, or written to one, is a hit only while that file is what it was."""

import pytest
from PIL import Image

import graphflow as gf

RED, BLUE = 0xFF0000, 0x0000FF


@pytest.fixture
def place(tmp_path):
    """Folders for files, and `run(a=(...), ...)` in them: every run on a new engine, as in a new process."""

    class Place:
        output, input, temp = tmp_path / "output", tmp_path / "input", tmp_path / "output" / "temp"

        def settings(self, **changes):
            return gf.Settings(**{"output_dir": self.output, "input_dir": self.input, "temp_dir": self.temp, **changes})

        def run(self, workflow, on_event=None, targets=None, **changes):
            engine = gf.Engine(gf.Registry.installed(), self.settings(**changes), gf.Cache(tmp_path / "cache"))
            with engine:
                return engine.run(workflow, on_event=on_event, targets=targets)

        def explain(self, workflow):
            with gf.Engine(gf.Registry.installed(), self.settings(), gf.Cache(tmp_path / "cache")) as engine:
                return {item.node: item for item in engine.explain(workflow)}

        def picture(self, name, colour):
            self.input.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), f"#{colour:06x}").save(self.input / name)

    return Place()


def colour_of(path):
    with Image.open(path) as picture:
        red, green, blue = picture.convert("RGB").getpixel((0, 0))
    return red << 16 | green << 8 | blue


def one_colour(colour, kind="SaveImage", **inputs):
    return gf.Workflow.from_json({
        "i": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": colour}},
        "s": {"class_type": kind, "inputs": {"images": ["i", 0], **inputs}},
    })  # fmt: skip


# -- files that were written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SaveImage", "PreviewImage"])
def test_a_written_file_whose_number_went_to_another_picture_is_written_again(place, kind):
    first = place.run(one_colour(RED, kind))
    (path,) = first.paths
    path.unlink()
    assert place.run(one_colour(BLUE, kind)).paths == [path], "the number was free"
    assert not place.explain(one_colour(RED, kind))["s"].hit
    again = place.run(one_colour(RED, kind))
    assert "s" not in again.cached and colour_of(again.paths[0]) == RED and colour_of(path) == BLUE
    assert "s" in place.run(one_colour(RED, kind)).cached


def test_a_written_file_that_was_overwritten_or_is_gone_is_written_again(place):
    (path,) = place.run(one_colour(RED)).paths
    Image.new("RGB", (8, 8), "#0000ff").save(path)
    second = place.run(one_colour(RED))
    assert "i" in second.cached and "s" not in second.cached and colour_of(second.paths[0]) == RED
    second.paths[0].unlink()
    third = place.run(one_colour(RED))
    assert "s" not in third.cached and colour_of(third.paths[0]) == RED


def test_what_a_node_shows_says_nothing_of_how_the_cache_knows_its_files(place):
    (shown,) = place.run(one_colour(RED))["s"].ui["images"]
    assert shown.keys() == {"filename", "subfolder", "type", "path"}


@pytest.mark.parametrize(
    ("kind", "input"), [("PreviewImage", "images"), ("MaskPreview", "mask"), ("ImageCompare", "image_a")]
)
def test_a_preview_in_another_folder_is_written_there(place, tmp_path, kind, input):
    source = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": RED}}
    nodes = {"i": source, "m": {"class_type": "ImageToMask", "inputs": {"image": ["i", 0], "channel": "red"}},
             "s": {"class_type": kind, "inputs": {input: ["m" if input == "mask" else "i", 0]}}}  # fmt: skip
    workflow = gf.Workflow.from_json(nodes)
    place.run(workflow)
    other = place.run(workflow, temp_dir=tmp_path / "elsewhere")
    assert all(path.is_relative_to(tmp_path / "elsewhere") for path in other.paths) and other.paths
    assert "s" in place.run(workflow).cached


def test_the_library_that_decodes_and_resamples_pictures_counts():
    registry, settings = gf.Registry.installed(), gf.Settings()
    for name in ("LoadImage", "LoadImageMask", "ImageScale"):
        assert "pillow" in registry[name].environment(settings)
