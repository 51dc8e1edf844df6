"""The library as somebody would first try it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from graphflow_nodes import api as n
from PIL import Image

import graphflow as gf


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path / "cache"))


@gf.node("Twice", version="1", output=True)
def twice(number: int = 1) -> gf.Ui[int]:
    return gf.Ui({"text": [str(2 * number)]}, (2 * number,))


@gf.node("Halve", version="1")
def halve(number: int = 1) -> int:
    if number % 2:
        raise ValueError("odd")
    return number // 2


def inverted(image: object) -> gf.Graph:
    with gf.Graph() as graph:
        n.PreviewImage(images=n.ImageInvert(image=n.LoadImage(image=image).IMAGE))
    return graph


# -- values of Python in a graph ---------------------------------------------------------------------------------------


def test_an_image_an_array_and_a_file_of_the_same_pixels_give_the_same_image():
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    for image in (Image.fromarray(pixels), pixels, Path("photo.png"), Path("photo.png").absolute()):
        gf.testing.assert_images_equal(inverted(image).run().images[0], 255 - pixels, tolerance=1)


def test_an_equal_value_is_known_again_by_another_engine_and_another_one_is_not():
    pixels = np.zeros((4, 4, 3), np.uint8)
    inverted(pixels).run()
    assert inverted(pixels.copy()).run().timings == {}
    assert inverted(pixels + 1).run().timings


def test_a_value_that_changes_later_does_not_change_the_graph():
    pixels = np.zeros((2, 2, 3), np.uint8)
    graph = inverted(pixels)
    pixels += 255
    assert np.asarray(graph.run().images[0]).min() == 255


def test_a_socket_takes_an_array_too_and_a_run_other_inputs():
    with gf.Graph() as graph:
        out = n.ImageInvert(image=np.ones((2, 2, 3), np.float32))
        n.PreviewImage(images=out)
    assert np.asarray(graph.run().images[0]).max() == 0
    assert np.asarray(graph.run(inputs={out.image: np.zeros((2, 2, 3), np.float32)}).images[0]).min() == 255


def test_transparency_of_a_python_image_is_the_mask():
    with gf.Graph() as graph:
        mask = n.MaskToImage(mask=n.LoadImage(image=Image.new("RGBA", (2, 2), (9, 9, 9, 0))).MASK)
        n.PreviewImage(images=mask)
    assert np.asarray(graph.run().images[0]).min() == 255


def test_the_json_of_such_a_graph_names_no_file_and_is_refused_where_the_value_is_not():
    workflow = inverted(Image.new("RGB", (2, 2))).workflow
    assert workflow["LoadImage"].inputs["image"].startswith("value:")
    problems = gf.Engine().validate(json.loads(workflow.dumps()))
    assert len(problems) == 1 and "not here" in problems[0].message and problems[0].hint


def test_a_sweep_goes_over_images():
    graph = inverted(Image.new("RGB", (2, 2)))
    places = {"LoadImage.image": [Image.new("RGB", (2, 2), colour) for colour in ("black", "white")]}
    results = gf.sweep(graph, places).run()
    assert [np.asarray(item.images[0]).max() for item in results] == [255, 0]


def test_a_file_that_is_not_there_is_a_problem():
    with pytest.raises(gf.InvalidWorkflow, match="cannot be read"):
        inverted(Path("nothing.png"))


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_second_run_computes_nothing_unless_there_is_no_cache():
    with gf.Graph(nodes=[halve]) as graph:
        n.PreviewAny(source=graph.nodes.Halve(number=4))
    assert graph.run().timings and not graph.run().timings
    assert graph.run(cache=None).timings and graph.run(cache="other").timings


def test_a_shipped_workflow_goes_by_its_name():
    assert gf.Workflow.load("text_to_image").find(type="KSampler")
    with pytest.raises(gf.InvalidWorkflow, match="no_such"):
        gf.Workflow.load("no_such")


def test_a_node_of_the_script_runs_and_a_function_that_is_none_says_what_to_write():
    with gf.Graph(nodes=[twice]) as graph:
        graph.nodes.Twice(number=4)
    assert graph.run()["Twice"].outputs == {"INT": 8}
    assert gf.sweep(graph, {"Twice.number": [1, 2]}).run()[1]["Twice"].outputs == {"INT": 4}
    with pytest.raises(gf.InvalidNode, match=r"not declared(.|\n)*@gf\.node"):
        gf.Graph(nodes=[lambda x: x])


def test_calling_a_plain_function_with_an_output_says_what_to_do():
    with gf.Graph(), pytest.raises(TypeError, match=r"only when the graph runs.*gf\.Graph\(nodes="):
        halve(n.PrimitiveInt(value=4))


def test_what_a_node_raises_is_the_cause_and_the_message_has_the_line():
    with gf.Graph(nodes=[halve]) as graph:
        n.PreviewAny(source=graph.nodes.Halve(number=3))
    with pytest.raises(gf.NodeFailed, match=r"at test_first_guess\.py, line \d+, in halve") as error:
        graph.run()
    assert isinstance(error.value.__cause__, ValueError)


def test_results_of_nodes_in_between_are_there_and_can_be_looked_at_without_a_run():
    with gf.Graph(nodes=[halve]) as graph:
        n.PreviewAny(source=graph.nodes.Halve(number=8))
    with gf.Engine().with_nodes(graph.own_types) as engine:
        assert engine.peek(graph, "Halve") is None
        assert engine.run(graph)["Halve"].outputs == {"INT": 4}
        assert engine.peek(graph, "Halve").outputs == {"INT": 4}


def test_a_run_that_takes_too_long_is_cancelled():
    @gf.node("Sleeper", output=True)
    def sleeper(context: gf.Context) -> gf.Ui:
        import time

        for step in range(1000):
            context.progress(step, 1000)
            time.sleep(0.01)
        return gf.Ui({})

    with gf.Graph(nodes=[sleeper]) as graph:
        graph.nodes.Sleeper()
    with pytest.raises(gf.TimedOut, match=r"longer than 0\.2 s"):
        graph.run(timeout=0.2)


def test_a_program_that_awaits_uses_the_engine_and_finds_the_result_behind_the_events():
    with gf.Graph() as graph:
        n.PreviewAny(source=n.PrimitiveInt(value=3))

    async def main():
        async with gf.Engine() as engine:
            stream = engine.stream(graph)
            events = [event async for event in stream]
            results = await gf.sweep(graph, {"PrimitiveInt.value": [1, 2]}).run_async(engine)
            return events, stream.result, results

    events, result, results = asyncio.run(main())
    assert isinstance(events[-1], gf.RunDone) and "PreviewAny" in result and len(results) == 2


# -- sweeps ------------------------------------------------------------------------------------------------------------


def test_variants_are_found_by_their_values_and_report_their_time():
    with gf.Graph() as graph:
        n.SaveImage(images=n.EmptyImage(width=8, height=8, color=1), filename_prefix="c_%color%_v%variant%")
    results = gf.sweep(graph, {"EmptyImage.color": [10, 20]}).run()
    (item,) = results.where(color=20)
    assert item.values["color"] == item.values["EmptyImage.color"] == 20 and item.index == 1
    assert item.images[0].path.name == "c_20_v1_00001_.png"
    assert set(results.timings) == {"EmptyImage", "SaveImage"}
    assert results.grid(title="Colours").height > results.grid().height
    assert results._repr_html_().startswith("<img")
    with pytest.raises(gf.UnknownName, match="does not vary"):
        results.where(width=8)


def test_a_variant_that_fails_is_tried_again():
    tries = []

    @gf.node("Flaky", output=True, deterministic=False)
    def flaky(number: int = 0) -> gf.Ui:
        tries.append(number)
        if number == 1 and tries.count(1) < 3:
            raise OSError("the network is down")
        return gf.Ui({})

    with gf.Graph(nodes=[flaky]) as graph:
        graph.nodes.Flaky()
    sweep = gf.sweep(graph, {"Flaky.number": [0, 1]})
    assert not sweep.run(retries=2).failed and sorted(tries) == [0, 1, 1, 1]
    tries.clear()
    assert len(sweep.run(retries=1).failed) == 1


# -- names, changes, images
# ---------------------------------------------------------------------------------------------


def test_one_kind_of_error_for_every_name_that_is_not_there():
    workflow = gf.Workflow.load("text_to_image")
    with gf.Graph():
        ref = n.PrimitiveInt(value=1)
    for look in (
        lambda: workflow["nope"],
        lambda: workflow.set("Nope.seed", 1),
        lambda: n.Nope,
        lambda: ref.nope,
        lambda: gf.Registry.installed()["Nope"],
        lambda: workflow.unset("KSampler.nope"),
    ):
        with pytest.raises(gf.UnknownName):
            look()
    assert issubclass(gf.UnknownName, KeyError) and issubclass(gf.UnknownName, gf.InvalidWorkflow)


def test_inputs_are_unset_and_types_changed():
    with gf.Graph() as graph:
        latent = n.EmptyLatentImage(width=64, height=32)
    workflow = graph.workflow.unset(latent.width)
    assert workflow["EmptyLatentImage"].inputs == {"height": 32}
    assert workflow.set_type("EmptyLatentImage", "EmptySD3LatentImage").find(type="EmptySD3LatentImage")
    assert latent.height.value == 32 and latent.batch_size.value == 1


def test_a_node_without_annotations_is_a_problem_for_each_parameter():
    with pytest.raises(gf.InvalidNode) as error:

        @gf.node("Wrong")
        def wrong(a, b: object) -> int:
            return 1

    assert [problem.input for problem in error.value.problems] == ["a", "b"]
    with pytest.raises(gf.InvalidNode, match="without a name"):
        gf.node(halve)


def test_a_saved_image_is_an_image_of_pillow_an_array_and_a_file():
    with gf.Graph() as graph:
        n.SaveImage(images=n.EmptyImage(width=8, height=4, color=0x0A0B0C))
    image = graph.run().images[0]
    assert image.pil.size == (8, 4) and np.asarray(image).shape == (4, 8, 3)
    assert image.save("copy.png").read_bytes() == image.path.read_bytes()
    gf.testing.assert_images_equal(image.save("copy.jpg"), image, tolerance=3)


def test_an_image_drawn_again_is_the_same_and_else_says_what_differs():
    with gf.Graph() as graph:
        n.SaveImage(images=n.LoadImage(image="in.png").IMAGE)
    Path("input").mkdir()
    Image.new("RGB", (4, 4), "red").save("input/in.png")
    path = graph.run().images[0].path
    assert str(Path.cwd()) not in str(gf.Workflow.load(path).embedded["graphflow"])
    assert gf.redraw(path).same
    Image.new("RGB", (4, 4), "blue").save("input/in.png")
    drawn = gf.redraw(path)
    assert not drawn.same and drawn.largest == 255
    assert any("LoadImage" in text and "another file" in text for text in drawn.differences)
    assert gf.redraw(path, check=False).same is None


def test_programs_and_events_are_where_one_looks_for_them():
    workflow = gf.Workflow.load("text_to_image")
    assert gf.diff(workflow, workflow.set("KSampler.seed", 99)).changed and gf.upgrade(workflow)[1] == []
    assert gf.lint("text_to_image") == [] and gf.Progress("1", 1, 2).step == 1


def test_what_is_not_quite_right_says_what_to_write():
    workflow = gf.Workflow.load("text_to_image")
    with gf.Graph() as graph:
        load = n.LoadImage(image="in.png")
        sink = n.PreviewImage(images=load.IMAGE)
    wrong = {
        "write KSampler.seed": lambda: workflow.set("seed", 1),
        "write Positive Prompt.text or Negative Prompt.text": lambda: gf.sweep(workflow, {"text": ["a"]}),
        "write LoadImage.image": lambda: graph.run(inputs={"LoadImage": 1}),
        "expected the name of an input": lambda: graph.run(inputs={load: 1}),
        r"find\('KSampler'\) is the id '3'": lambda: workflow["KSampler"],
        "did you mean 'text_to_image'": lambda: gf.run("text_to_imag"),
        "expected the inputs to vary": lambda: gf.sweep(workflow, [{"KSampler.seed": 1}]),
        "expected more than 0 seconds": lambda: gf.run(workflow, timeout=0),
        "targets=\\[node\\] names": lambda: graph.run(sink),
        "is an input of a node": lambda: n.ImageInvert(image=load.image),
        "does not change(.|\n)*inputs=": lambda: setattr(load, "image", "other.png"),
        "no output 'MASK'(.|\n)*known: ": lambda: gf.NodeResult({"IMAGE": 1}, {})["MASK"],
    }
    for text, call in wrong.items():
        with pytest.raises(gf.InvalidWorkflow, match=text):
            call()


def test_what_a_run_gives_goes_into_the_next_one_as_it_is():
    with gf.Graph() as graph:
        n.SaveImage(images=n.EmptyImage(width=8, height=4, color=0x0A0B0C))
    result = gf.run(graph, {"EmptyImage.width": 6})
    (image,) = result.images
    assert image.size == (6, 4) and Image.open(image).size == (6, 4)
    assert result["EmptyImage"]["IMAGE"].shape == result["EmptyImage"][0].shape == (1, 4, 6, 3)
    assert result.timings["SaveImage"] == result.timings[result.workflow.find("SaveImage")]
    assert gf.Workflow.load(image) == result.workflow and gf.redraw(image).same
    assert inverted(image).run().images[0].pil.getpixel((0, 0)) == (0xF5, 0xF4, 0xF3)
    assert asyncio.run(gf.run_async(graph, {"EmptyImage.width": 6})).cached
    assert gf.validate(graph) == [] and {item.node for item in gf.explain(graph)} == {"EmptyImage", "SaveImage"}
    sweep = gf.sweep(graph, {"EmptyImage.color": [1, 2]})
    assert repr(sweep) == "<Sweep of 2 variants over color>" and len(sweep.run().paths) == 2


def test_helpers_for_tests_of_nodes(tmp_path):
    assert gf.testing.lazy(1).get() == 1
    with pytest.raises(Exception, match="input"):
        gf.testing.lazy().get()
    seen = []
    context = gf.testing.context(tmp_path, on_event=seen.append)
    context.progress(1, 2)
    assert seen[0].step == 1 and context.settings.output_dir == tmp_path / "output"
    with pytest.raises(AssertionError, match="largest difference"):
        gf.testing.assert_images_equal(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 9, np.uint8), tolerance=8)
