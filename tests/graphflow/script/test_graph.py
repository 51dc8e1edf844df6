"""What a user may rely on when building a graph from Python."""

from typing import Annotated, Any, NamedTuple

import pytest
from graphflow_nodes import api as n

import graphflow as gf
from graphflow import Graph, Place, Wire


class Two(NamedTuple):
    image: Annotated[Any, Wire("IMAGE")]
    mask: Annotated[Any, Wire("MASK")]


@gf.node("Split")
def split(image: Annotated[Any, Wire("IMAGE")], id: str = "", strength: float = 1.0) -> Two:
    """An input is called like an output, another like the argument for the node's id."""
    return Two(image, image)


@gf.node("Odd Name (v2)")
def odd(lambda_: int = 0) -> int:
    return lambda_


@gf.node("Odd-Name (v2)")
def odd_too(x: int = 0) -> int:
    return x


def apple():
    with Graph() as g:
        model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        pos = n.CLIPTextEncode(clip=clip, text="a red apple")
        neg = n.CLIPTextEncode(clip=clip, text="", title="Negative")
        empty = n.EmptyLatentImage(width=64, height=64)
        latent = n.KSampler(model=model, positive=pos, negative=neg, latent_image=empty, seed=1, steps=2, cfg=5.0)
        out = n.SaveImage(images=n.VAEDecode(samples=latent, vae=vae), filename_prefix="apple", id="9")
    return g, latent, pos, model, out


def problems(call):
    with pytest.raises(gf.InvalidWorkflow) as error:
        call()
    return [problem.code for problem in error.value.problems]


def test_the_graph_of_the_readme_runs(tmp_path):
    g, *_ = apple()
    with gf.Engine(settings=gf.Settings(output_dir=tmp_path)) as engine:
        result = g.run(engine)
    assert [image.path.parent for image in result["SaveImage"].images] == [tmp_path]


def test_an_engine_takes_a_graph_json_or_a_file(tmp_path):
    with gf.Graph() as g:
        n.PreviewAny(source=n.PrimitiveInt(value=3), id="out")
    g.save(tmp_path / "g.json")
    with gf.Engine(settings=gf.Settings(output_dir=str(tmp_path / "out"))) as engine:
        for source in (g, g.workflow, g.workflow.to_json(), tmp_path / "g.json", str(tmp_path / "g.json")):
            assert engine.run(source)["out"].ui["text"] == ["3"]
            assert engine.validate(source) == [] and len(engine.explain(source)) == 2
            assert gf.run(source)["out"].ui["text"] == ["3"] and len(gf.sweep(source, {"PrimitiveInt.value": [1]})) == 1


def test_ids_say_what_a_node_is_and_stay_when_others_come():
    g, *_ = apple()
    assert list(g.workflow) == [
        "CheckpointLoaderSimple",
        "CLIPTextEncode",
        "CLIPTextEncode_2",
        "EmptyLatentImage",
        "KSampler",
        "VAEDecode",
        "9",
    ]
    with g:
        n.PrimitiveInt(value=1)
    assert list(g.workflow)[:7] == list(apple()[0].workflow)


def test_only_what_was_given_is_written_and_nothing_is_filled_in():
    inputs = apple()[0].workflow["KSampler"].inputs
    assert set(inputs) == {"model", "positive", "negative", "latent_image", "seed", "steps", "cfg"}
    assert inputs["model"] == ["CheckpointLoaderSimple", 0] and inputs["cfg"] == 5.0


def test_an_attribute_is_the_place_of_an_input_whether_it_was_given_linked_or_left():
    g, latent, pos, model, out = apple()
    assert latent.seed == Place("KSampler", "seed") and latent.denoise == Place("KSampler", "denoise")
    assert pos.clip == Place("CLIPTextEncode", "clip") and out.filename_prefix == Place("9", "filename_prefix")
    assert model.ckpt_name == Place("CheckpointLoaderSimple", "ckpt_name")
    assert g.workflow.set(latent.seed, 5)["KSampler"].inputs["seed"] == 5


def test_several_outputs_unpack_and_have_names_and_numbers():
    with Graph():
        loader = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        model, clip, _ = loader
        text = n.CLIPTextEncode(clip=loader.CLIP, text="")
    assert len(loader) == 3 and repr(loader[1]) == repr(clip) == repr(loader.CLIP) and repr(model) != repr(clip)
    with pytest.raises(IndexError):
        loader[3]
    with pytest.raises(TypeError, match="nothing to unpack"):
        _a, _b = text
    with pytest.raises(AttributeError, match="did you mean 'CLIP'"):
        _ = loader.CLIB


def test_saved_and_loaded_ids_and_titles_are_kept(tmp_path):
    g, *_ = apple()
    g.extra["version"] = 3
    g.save(tmp_path / "apple.json")
    again = Graph.load(tmp_path / "apple.json")
    assert again.workflow.to_json() == g.workflow.to_json()
    assert again["Negative"].text == Place("CLIPTextEncode_2", "text")
    with again:
        n.PreviewImage(images=again["VAEDecode"])
    assert again.workflow["PreviewImage"].inputs["images"] == ["VAEDecode", 0]


def test_without_a_with_the_graph_is_what_the_result_stands_on():
    def made():
        model, clip, vae = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        n.CLIPTextEncode(clip=clip, text="not used")
        text = n.CLIPTextEncode(clip=clip, text="used")
        latent = n.EmptyLatentImage(width=64)
        done = n.KSampler(model=model, positive=text, negative=text, latent_image=latent)
        return n.SaveImage(images=n.VAEDecode(samples=done, vae=vae))

    g = Graph.of(made())
    assert [item.inputs.get("text") for item in g.workflow.values() if item.class_type == "CLIPTextEncode"] == ["used"]
    assert len(g) == 6 and g.workflow.to_json() == Graph.of(made()).workflow.to_json()


def test_a_node_without_a_graph_has_no_place_and_says_so():
    free = n.PrimitiveInt(value=1)
    assert problems(lambda: free.value) == ["no_graph"]
    Graph.of(free)
    assert free.value == Place("PrimitiveInt", "value")


def test_free_nodes_join_the_graph_that_uses_them():
    free = n.EmptyLatentImage(width=64)
    with Graph() as g:
        n.LatentUpscaleBy(samples=free, upscale_method="bilinear")
    assert list(g.workflow) == ["EmptyLatentImage", "LatentUpscaleBy"]


def test_a_node_of_another_graph_is_refused():
    _, latent, *_ = apple()

    def other():
        with Graph():
            n.LatentUpscaleBy(samples=latent, upscale_method="bilinear")

    assert problems(other) == ["other_graph"]


def test_an_id_may_be_a_number_and_keeps_clear_of_what_stands_beside_the_nodes():
    with Graph() as g:
        g.extra["PrimitiveInt"] = "not a node"
        assert n.PrimitiveInt(value=1).node_id == "PrimitiveInt_2" and n.PrimitiveInt(value=2, id=7).node_id == "7"
    assert g.workflow.to_json()["PrimitiveInt"] == "not a node"


def test_an_id_is_given_once():
    def twice():
        with Graph():
            n.PrimitiveInt(value=1, id="a")
            n.PrimitiveInt(value=2, id="a")

    assert problems(twice) == ["id_taken"]


def test_a_wrong_call_says_everything_that_is_wrong_at_once():
    with Graph():
        _, clip, _ = n.CheckpointLoaderSimple(ckpt_name="graphflow-tiny")
        with pytest.raises(gf.InvalidWorkflow) as error:
            n.KSampler(model=clip, positive=n.CheckpointLoaderSimple(ckpt_name="x"), sed=1, cfg=-1, latent_image=3)
    found = {problem.input: problem.code for problem in error.value.problems}
    assert found == {
        "sed": "unknown_input",
        "model": "type_mismatch",
        "positive": "not_an_output",
        "cfg": "out_of_range",
        "latent_image": "not_a_link",
        "negative": "missing_input",
    }
    assert "did you mean 'seed'?" in str(error.value)


def test_a_refused_call_leaves_the_graph_as_it_was():
    with Graph() as g:
        assert problems(lambda: n.VAEDecode()) == ["missing_input", "missing_input"]
        assert problems(lambda: n.PrimitiveInt(3)) == ["positional"]
    assert len(g) == 0


def test_a_model_that_only_another_machine_has_may_be_named():
    with Graph():
        n.CheckpointLoaderSimple(ckpt_name="on_the_server.safetensors")
        assert problems(lambda: n.CheckpointLoaderSimple(ckpt_name=7)) == ["not_a_choice"]


def test_an_unknown_type_is_an_attribute_error_with_the_nearest_name():
    with pytest.raises(AttributeError, match="did you mean 'KSampler'"):
        _ = n.KSamplr
    assert "KSampler" in dir(n)


def test_clashes_of_names_have_a_way_around():
    own = gf.Nodes(gf.Registry([split, odd, odd_too]))
    with Graph() as g:
        image, _ = n.LoadImage(image="a.png")
        parts = own.Split(image=image, id="an input", id_="node", title="A title")
        number = own.Odd_Name_v2(lambda_=3)
        other = own.Odd_Name_v2_2(x=3)
    assert g.workflow["node"].inputs["id"] == "an input" and g.workflow["node"].title == "A title"
    assert isinstance(parts.image, gf.Value) and parts.strength == Place("node", "strength")
    assert g.workflow[other.node_id].class_type == "Odd-Name (v2)"
    assert number.node_id == "Odd_Name_v2_" and g.workflow["Odd_Name_v2_"].class_type == "Odd Name (v2)"


def test_a_list_that_reads_like_a_link_is_kept_as_a_value():
    @gf.node("Any")
    def anything(value: gf.AnyType) -> int:
        return 0

    with Graph() as g:
        gf.Nodes(gf.Registry([anything])).Any(value=["a", 1])
    assert g.workflow["Any"].inputs["value"] == {"__value__": ["a", 1]}


def test_what_the_functions_cannot_say_is_added_as_it_stands():
    with Graph() as g:
        strange = g.add(gf.Node(class_type="Not Installed", inputs={"x": ["later", 4]}), id="early")
        n.PreviewImage(images=strange[2])
    assert g.workflow["PreviewImage"].inputs == {"images": ["early", 2]} and strange.x == Place("early", "x")


def test_inputs_that_grow_are_given_as_a_list_or_by_name():
    with Graph() as g:
        image = n.EmptyImage(width=8, height=8)
        n.BatchImagesNode(images=[image, image], id="list")
        n.BatchImagesNode(images={"image0": image, "image1": image}, id="names")
        n.BatchImagesNode(images__image0=image, images__image1=image, id="flat")
        n.ComfyMathExpression(expression="a * b", values=[2, n.PrimitiveInt(value=3)])
        assert problems(lambda: n.BatchImagesNode(images=[n.PrimitiveInt(value=1)] * 2)) == ["type_mismatch"] * 2
    assert not hasattr(g["list"], "images") and g["list"].images__image0 == Place("list", "images.image0")
    inputs = g.workflow["list"].inputs
    assert inputs == {"images.image0": ["EmptyImage", 0], "images.image1": ["EmptyImage", 0]}
    assert g.workflow["names"].inputs == g.workflow["flat"].inputs == inputs
    assert g.workflow["ComfyMathExpression"].inputs["values.b"] == ["PrimitiveInt", 0]


def test_inputs_that_a_choice_brings_along_are_arguments_with_two_underscores():
    with Graph() as g:
        image = n.EmptyImage(width=8, height=8)
        resized = n.ResizeImageMaskNode(input=image, resize_type="scale width", resize_type__width=16)
        assert problems(
            lambda: n.ResizeImageMaskNode(input=image, resize_type="scale width", resize_type__multiplier=2.0)
        ) == ["unknown_input"]
        n.PreviewImage(images=resized)
    assert resized.resize_type__width == Place("ResizeImageMaskNode", "resize_type.width")
    assert g.workflow["ResizeImageMaskNode"].inputs["resize_type.width"] == 16


@gf.subgraph
def soften(samples, times=1):
    for _ in range(times):
        samples = n.LatentUpscaleBy(samples=samples, upscale_method="bilinear", scale_by=1.0)
    return samples


@gf.subgraph
def twice(samples):
    return soften(soften(samples))


def test_a_subgraph_is_a_function_whose_ids_carry_its_name():
    with Graph() as g:
        start = n.EmptyLatentImage()
        end = soften(twice(soften(start, times=2)))
    assert list(g.workflow) == [
        "EmptyLatentImage",
        "soften:LatentUpscaleBy",
        "soften:LatentUpscaleBy_2",
        "twice:soften:LatentUpscaleBy",
        "twice:soften_2:LatentUpscaleBy",
        "soften_2:LatentUpscaleBy",
    ]
    assert end.scale_by == Place("soften_2:LatentUpscaleBy", "scale_by")


def test_a_subgraph_gives_the_same_ids_without_a_with():
    g = Graph.of(soften(twice(n.EmptyLatentImage())))
    assert list(g.workflow)[1:] == [
        "twice:soften:LatentUpscaleBy",
        "twice:soften_2:LatentUpscaleBy",
        "soften:LatentUpscaleBy",
    ]


def test_a_subgraph_that_is_called_on_a_loaded_graph_is_another_group(tmp_path):
    g = Graph.of(soften(n.EmptyLatentImage()))
    g.save(tmp_path / "soft.json")
    again = Graph.load(tmp_path / "soft.json")
    with again:
        soften(again["soften:LatentUpscaleBy"])
    assert list(again.workflow)[2:] == ["soften_2:LatentUpscaleBy"]


def test_a_chain_of_thousands_is_no_trouble():
    value = n.PrimitiveInt(value=0)
    add = gf.Nodes(gf.Registry([chain])).Chain
    for _ in range(3000):
        value = add(value=value)
    assert len(Graph.of(value)) == 3001


@gf.node("Chain")
def chain(value: int) -> int:
    return value


def test_graphs_of_two_threads_do_not_meet():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: list(apple()[0].workflow), range(8)))
    assert all(each == found[0] for each in found)
