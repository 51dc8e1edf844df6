"""A result that was read from a file, or written to one, is a hit only while that file is what it was."""

import shutil

import pytest
from graphflow_nodes.files.folders import BUILTIN
from graphflow_nodes.library.images import load_image
from graphflow_nodes.library.primitives import primitive_string
from PIL import Image
from safetensors.torch import load_file, save_file

import graphflow as gf

RED, BLUE = 0xFF0000, 0x0000FF


@pytest.fixture
def place(tmp_path):
    """Folders for files, and `run(a=(...), ...)` in them: every run on a new engine, as in a new process."""

    class Place:
        output, input, temp = tmp_path / "output", tmp_path / "input", tmp_path / "output" / "temp"

        def cache(self):
            return gf.Cache(tmp_path / "cache")

        def settings(self, **changes):
            return gf.Settings(**{"output_dir": self.output, "input_dir": self.input, "temp_dir": self.temp, **changes})

        def run(self, workflow, on_event=None, targets=None, **changes):
            engine = gf.Engine(gf.Registry.installed(), self.settings(**changes), self.cache())
            with engine:
                return engine.run(workflow, on_event=on_event, targets=targets)

        def explain(self, workflow):
            with gf.Engine(gf.Registry.installed(), self.settings(), self.cache()) as engine:
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
    return gf.Workflow.from_json(
        {
            "i": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": colour}},
            "s": {"class_type": kind, "inputs": {"images": ["i", 0], **inputs}},
        }
    )


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


@pytest.mark.parametrize("lasts", [True, False])
def test_of_two_saved_files_of_one_picture_the_one_that_is_still_there_is_the_hit(place, lasts):
    """Three ways to make a red picture are three recipes, and by content one thing to save."""
    source = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": RED}}
    ways = [
        gf.Workflow.from_json(
            {
                "i": source,
                **{
                    str(n): {"class_type": "ImageInvert", "inputs": {"image": [str(n - 1) if n else "i", 0]}}
                    for n in range(count)
                },
                "s": {"class_type": "SaveImage", "inputs": {"images": [str(count - 1) if count else "i", 0]}},
            }
        )
        for count in (0, 2, 4)
    ]
    with gf.Engine(gf.Registry.installed(), place.settings(), place.cache()) as engine:
        run = engine.run if lasts else place.run
        (path,) = run(ways[0]).paths
        path.unlink()
        assert "s" in run(ways[1]).timings
        assert "s" in run(ways[2]).cached


def test_what_a_node_shows_says_nothing_of_how_the_cache_knows_its_files(place):
    (shown,) = place.run(one_colour(RED))["s"].ui["images"]
    assert shown.keys() == {"filename", "subfolder", "type", "path"}


@pytest.mark.parametrize(
    ("kind", "input"), [("PreviewImage", "images"), ("MaskPreview", "mask"), ("ImageCompare", "image_a")]
)
def test_a_preview_in_another_folder_is_written_there(place, tmp_path, kind, input):
    source = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": RED}}
    nodes = {
        "i": source,
        "m": {"class_type": "ImageToMask", "inputs": {"image": ["i", 0], "channel": "red"}},
        "s": {"class_type": kind, "inputs": {input: ["m" if input == "mask" else "i", 0]}},
    }
    workflow = gf.Workflow.from_json(nodes)
    place.run(workflow)
    other = place.run(workflow, temp_dir=tmp_path / "elsewhere")
    assert all(path.is_relative_to(tmp_path / "elsewhere") for path in other.paths) and other.paths
    assert "s" in place.run(workflow).cached


def test_the_library_that_decodes_and_resamples_pictures_counts():
    registry, settings = gf.Registry.installed(), gf.Settings()
    for name in ("LoadImage", "LoadImageMask", "ImageScale"):
        assert "pillow" in registry[name].environment(settings)


# -- files that are read ----------------------------------------------------------------------------------------------


def shown(**nodes):
    """`shown(l=("LoadImage", {"image": "x.png"}), ...)`"""
    nodes = {key: {"class_type": kind, "inputs": given} for key, (kind, given) in nodes.items()}
    return gf.Workflow.from_json(nodes)


LINKED = {
    "LoadImage": dict(l=("LoadImage", {"image": ["p", 0]}), o=("ImageInvert", {"image": ["l", 0]})),
    "LoadImageMask": dict(
        l=("LoadImageMask", {"image": ["p", 0], "channel": "red"}), o=("InvertMask", {"mask": ["l", 0]})
    ),
}


def brightness(result):
    (value,) = result.nodes["o"].outputs.values()
    return float(value.mean())


@pytest.mark.parametrize("kind", LINKED)
def test_a_file_whose_name_is_linked_is_a_hit_while_it_is_the_same_and_a_miss_when_it_changes(place, kind):
    workflow = shown(p=("PrimitiveString", {"value": "x.png"}), **LINKED[kind])
    place.picture("x.png", 0xFFFFFF)
    assert brightness(place.run(workflow, targets=["o"])) == 0.0
    assert set(place.run(workflow, targets=["o"]).cached) == {"p", "l", "o"}
    place.picture("x.png", 0)
    again = place.run(workflow, targets=["o"])
    assert brightness(again) == 1.0 and set(again.timings) == {"l", "o"}
    place.picture("x.png", 0xFFFFFF)
    back = place.run(workflow, targets=["o"])
    assert brightness(back) == 0.0 and not back.timings


def test_a_linked_name_of_a_file_that_is_not_there_is_told_by_the_node(place):
    workflow = shown(p=("PrimitiveString", {"value": "gone.png"}), **LINKED["LoadImage"])
    with pytest.raises(gf.NodeFailed) as failed:
        place.run(workflow, targets=["o"])
    (problem,) = failed.value.problems
    assert problem.node == "l" and "gone.png" in problem.message


def test_a_list_of_linked_names_is_a_miss_when_one_of_the_files_changes(place):
    names = gf.Workflow.from_json(
        {
            "p": {"class_type": "PrimitiveString", "inputs": {"value": "a.png,b.png"}},
            "n": {"class_type": "Names", "inputs": {"text": ["p", 0]}},
            "l": {"class_type": "LoadImage", "inputs": {"image": ["n", 0]}},
            "o": {"class_type": "Brightness", "inputs": {"images": ["l", 0]}},
        }
    )

    @gf.node("Names", version="1")
    def split(text: str) -> gf.Each[str]:
        return text.split(",")

    @gf.node("Brightness", version="1", output=True)
    def bright(images: gf.Every[gf.Image]) -> gf.Ui:
        return gf.Ui({"values": [float(image.mean()) for image in images]})

    registry = gf.Registry([primitive_string, load_image, split, bright])
    for colour in (0, 0xFFFFFF, 0xFFFFFF, 0):
        place.picture("a.png", 0)
        place.picture("b.png", colour)
        with gf.Engine(registry, place.settings(), place.cache()) as engine:
            assert engine.run(names)["o"].ui == {"values": [0.0, colour / 0xFFFFFF]}


def test_explain_says_of_a_linked_file_what_the_run_will_do(place):
    save = ("SaveImage", {"images": ["l", 0]})
    workflow = shown(p=("PrimitiveString", {"value": "x.png"}), l=("LoadImage", {"image": ["p", 0]}), s=save)
    place.picture("x.png", 0)
    assert not any(item.hit for item in place.explain(workflow).values())
    place.run(workflow)
    assert all(item.hit for item in place.explain(workflow).values())
    place.picture("x.png", 0xFFFFFF)
    told = place.explain(workflow)
    assert told["p"].hit and not told["l"].hit and "the file changed" in told["l"].why
    place.run(workflow)
    assert all(item.hit for item in place.explain(workflow).values())


def test_weights_whose_name_is_linked_are_a_miss_when_the_file_changes(place, tmp_path):
    model = tmp_path / "models" / "checkpoints" / "mine"
    shutil.copytree(BUILTIN / "graphflow-tiny", model)
    workflow = shown(
        p=("PrimitiveString", {"value": "mine"}),
        l=("CheckpointLoaderSimple", {"ckpt_name": ["p", 0]}),
        o=("CLIPTextEncode", {"clip": ["l", 1], "text": "a red square"}),
    )
    run = lambda: place.run(workflow, targets=["o"], models=(tmp_path / "models",))  # noqa: E731
    run()
    assert "o" in run().cached
    (file,) = (model / "text_encoder").glob("*.safetensors")
    save_file({name: weight + 1 for name, weight in load_file(file).items()}, file, {"format": "pt"})
    assert "o" in run().timings


def test_a_prompt_that_is_told_by_a_link_to_be_new_every_time_is(place):
    workflow = shown(
        p=("PrimitiveString", {"value": "Yes"}),
        o=("DPRandomGenerator", {"text": "{a|b}", "seed": 1, "autorefresh": ["p", 0]}),
    )
    for _ in range(2):
        assert "o" in place.run(workflow, targets=["o"]).timings


@pytest.mark.parametrize("name", ["x.png", ["p", 0]])
def test_a_file_that_changes_while_the_run_goes_on_spoils_no_later_result(place, name):
    workflow = shown(
        p=("PrimitiveString", {"value": "x.png"}),
        l=("LoadImage", {"image": name}),
        o=("ImageInvert", {"image": ["l", 0]}),
    )

    def change(event):
        if isinstance(event, gf.events.NodeStarted) and event.node == "l":
            place.picture("x.png", 0xFFFFFF)

    place.picture("x.png", 0)
    assert brightness(place.run(workflow, change, ["o"])) == 0.0, "it was read after the change"
    place.picture("x.png", 0)
    assert brightness(place.run(workflow, targets=["o"])) == 1.0
    place.picture("x.png", 0xFFFFFF)
    assert brightness(place.run(workflow, targets=["o"])) == 0.0


def test_variants_of_a_linked_file_name_read_each_its_own_file_and_see_it_change(place):
    workflow = shown(p=("PrimitiveString", {"value": "a.png"}), **LINKED["LoadImage"])
    for colour in (0, 0xFFFFFF):
        place.picture("a.png", 0)
        place.picture("b.png", colour)
        with gf.Engine(gf.Registry.installed(), place.settings(), place.cache()) as engine:
            found = gf.sweep(workflow, {"p.value": ["a.png", "b.png"]}).run(engine, targets=["o"])
            assert [brightness(variant) for variant in found] == [1.0, 1.0 - colour / 0xFFFFFF]
