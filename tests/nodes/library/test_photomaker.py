"""PhotoMaker as nodes on small weights: which state of a prompt is replaced, by what, and what is refused."""

import pytest
import torch
from graphflow_nodes.families.clip_vision import network as clip_vision
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.photomaker.text import without_trigger
from graphflow_nodes.files.header import read_header
from graphflow_nodes.library import photomaker as nodes
from graphflow_nodes.library.conditioning import clip_text_encode
from safetensors.torch import save_file
from torch.nn.functional import gelu, layer_norm, linear

import graphflow as gf
from tests.nodes.families import tiny, tiny_photomaker, tiny_vision

OTHER = "graphflow-tiny"
"""A built-in checkpoint with CLIP-L alone."""
END = 49407
"""The token that ends a text."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("photomaker") / "models"
    tiny.tiny("sdxl").save(root / "checkpoints" / "sdxl.safetensors")
    tiny_photomaker.save(root / "photomaker" / "v1.bin")
    return root


@pytest.fixture(scope="module")
def engine(models):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu"), cache=gf.Cache(memory=0)) as engine:
        yield engine


@pytest.fixture(scope="module")
def loaded(engine):
    """(settings, PhotoMaker, CLIP) as the loaders give them."""
    result = engine.run(gf.Workflow.from_json(graph()), targets=["4", "8"])
    return engine.settings, result["8"].outputs["PHOTOMAKER"], result["4"].outputs["CLIP"]


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(text="a woman photomaker in a park", checkpoint="sdxl.safetensors", file="v1.bin", color=0x204060):
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "5": node("EmptyLatentImage", width=64, height=64),
        "6": node("EmptyImage", width=48, height=40, color=color),
        "7": node("CLIPTextEncode", clip=["4", 1], text="a blur"),
        "8": node("PhotoMakerLoader", photomaker_model_name=file),
        "9": node("PhotoMakerEncode", photomaker=["8", 0], image=["6", 0], clip=["4", 1], text=text),
        "3": node("KSampler", model=["4", 0], positive=["9", 0], negative=["7", 0], latent_image=["5", 0], steps=1),
    }


def problems(engine, stated):
    """Those of the two nodes before a run."""
    return [one for one in engine.validate(gf.Workflow.from_json(stated)) if one.node in ("8", "9")]


def picture(seed=0):
    return torch.rand(1, 40, 56, 3, generator=torch.Generator().manual_seed(seed))


def formula(image, state):
    """The fuse module in plain torch, from the tensors of the file."""
    held = {name: one.float() for name, one in tiny_photomaker.weights().items()}
    pixels = clip_vision.seen(image, tiny_vision.CONFIG, crop=True)
    with torch.inference_mode():
        whole = tiny_vision.encoder().vision_model(pixel_values=pixels).pooler_output[0]
    seen = torch.cat([held[f"visual_projection{number}.weight"] @ whole for number in ("", "_2")])

    def normed(x, name):
        return layer_norm(x, x.shape, held[f"fuse_module.{name}.weight"], held[f"fuse_module.{name}.bias"])

    def layers(x, name):
        x = normed(x, f"{name}.layernorm")
        for layer in ("fc1", "fc2"):
            x = linear(x, held[f"fuse_module.{name}.{layer}.weight"], held[f"fuse_module.{name}.{layer}.bias"])
            x = gelu(x) if layer == "fc1" else x
        return x

    hidden = state + layers(torch.cat([state, seen]), "mlp1")
    return normed(hidden + layers(hidden, "mlp2"), "layer_norm")


@pytest.mark.parametrize(
    ("text", "place"),
    [("a woman photomaker in a park", 2), ("photograph of photomaker", 2), ("a\n woman  photomaker in a park", 2)],
)
def test_the_word_before_the_trigger_becomes_what_the_fuse_module_makes_of_it_and_the_image(loaded, text, place):
    settings, photomaker, clip = loaded
    ((found, options),) = nodes.photomaker_encode(settings, photomaker, picture(), clip, text)
    ((plain, of_plain),) = clip_text_encode(settings, text.replace("photomaker", ""), clip)
    others = [number for number in range(77) if number != place]
    assert torch.equal(found[0, others], plain[0, others])
    assert torch.equal(options["pooled_output"], of_plain["pooled_output"]) and options.keys() == of_plain.keys()
    torch.testing.assert_close(found[0, place], formula(picture(), plain[0, place]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0, place], formula(picture(1), plain[0, place]), atol=1e-2)


def test_a_batch_is_seen_by_its_first_image(loaded):
    settings, photomaker, clip = loaded
    ((alone, _),) = nodes.photomaker_encode(settings, photomaker, picture(), clip)
    ((both, _),) = nodes.photomaker_encode(settings, photomaker, torch.cat([picture(), picture(1)]), clip)
    assert torch.equal(alone, both)


@pytest.mark.parametrize("text", ["a woman in a park", "a woman photomaker, in a park", "a woman Photomaker", ""])
def test_a_prompt_without_the_trigger_is_encoded_as_it_stands(loaded, text):
    settings, photomaker, clip = loaded
    ((found, options),) = nodes.photomaker_encode(settings, photomaker, picture(), clip, text)
    ((plain, of_plain),) = clip_text_encode(settings, text, clip)
    assert torch.equal(found, plain) and torch.equal(options["pooled_output"], of_plain["pooled_output"])


def places(clip, text, place):
    read = without_trigger(clip, text, place, {})
    assert str(read) == text and read.chunks.keys() == {"text.l", "text.g"}
    assert read.chunks["text.l"] == read.chunks["text.g"]
    return [list(chunk.places) for chunk in read.chunks["text.l"]], read.chunks["text.l"][0].weights


def test_the_tokens_of_the_trigger_are_taken_out_of_the_chunks_of_a_prompt(loaded):
    *_, clip = loaded
    tokens, weights = places(clip, "photomaker, a (woman photomaker :1.5) photomaker", 3)
    (plain,), _ = places(clip, "photomaker, a woman x photomaker photomaker", 4)
    assert tokens == [[*plain[:5], *plain[6:]]], "the first word with a comma and the one behind it stay"
    assert weights == (1.0, 1.0, 1.0, 1.0, 1.5, 1.0, 1.0)
    full, weights = places(clip, "a woman photomaker" + " tree" * 71, 2)
    assert len(full) == 1 and full[0][-3:] == [full[0][2], END, END] and len(weights) == 75
    long, _ = places(clip, "tree " * 74 + "photomaker" + " tree" * 3, 74)
    assert [len(chunk) for chunk in long] == [75, 3] and long[0][-2:] == [long[0][0], END]
    vectors = {"clip_l": torch.zeros(2, 64), "clip_g": torch.zeros(2, 64)}
    named = without_trigger(clip, "embedding: photomaker", 1, {"embeddings": lambda name: vectors})
    assert len(named.chunks["text.g"][0].places) == 2, "an embedding of this name stays"


def test_an_image_changes_what_is_sampled(engine):
    def sampled(**changes):
        return engine.run(gf.Workflow.from_json(graph(**changes)), targets=["3"])["3"].outputs["LATENT"]["samples"]

    assert not torch.allclose(sampled(), sampled(color=0xF0E020), atol=1e-5)


def test_the_cost_counts_what_sees_images(engine, models):
    tiny_vision.save(models / "clip_vision" / "vit.safetensors")
    seen = {
        "1": node("CLIPVisionLoader", clip_name="vit.safetensors"),
        "2": node("CLIPVisionEncode", clip_vision=["1", 0], image=["6", 0]),
    }
    (cost,) = engine.costs(gf.Workflow.from_json(graph() | seen))
    (without,) = engine.costs(gf.Workflow.from_json(graph(text="a woman in a park")))
    photomaker = sum(4 * one.numel() for one in tiny_photomaker.weights().values())
    vit = sum(4 * one.numel() for one in tiny_vision.encoder().parameters())
    counted = {load.file: load.bytes for load in cost.loads}
    assert counted["v1.bin"] == pytest.approx(photomaker, rel=0.01)
    assert counted["vit.safetensors"] == pytest.approx(vit, rel=0.01)
    assert "v1.bin" not in {load.file for load in without.loads}, "a prompt without the trigger does not load it"


def test_identify_knows_the_file_and_whether_it_runs(models, tmp_path):
    found = identify(read_header(models / "photomaker" / "v1.bin"))
    assert found.words == "a PhotoMaker for Stable Diffusion XL (version 1)"
    assert found.supported and found.folder == "photomaker"
    save_file(tiny_photomaker.weights(), tmp_path / "bare.safetensors")
    bare = identify(read_header(tmp_path / "bare.safetensors"))
    assert (bare.kind, bare.supported) == ("PhotoMaker", True)


def test_a_file_that_does_not_run_is_a_problem_before_the_run(engine, models):
    tiny_vision.redux(models / "photomaker" / "redux.safetensors")
    tiny_photomaker.save(models / "photomaker" / "v2.bin", **{"qformer_perceiver.token_norm.weight": torch.ones(2)})
    (problem,) = problems(engine, graph(file="redux.safetensors"))
    assert (problem.node, problem.input) == ("8", "photomaker_model_name") and "StyleModelLoader" in problem.hint
    (problem,) = problems(engine, graph(file="v2.bin"))
    assert problem.input == "photomaker_model_name" and "version 2 needs InsightFace" in problem.hint
    tiny_photomaker.save(models / "clip_vision" / "person.bin")
    encoder = gf.Workflow.from_json({"1": node("CLIPVisionLoader", clip_name="person.bin")})
    assert any("PhotoMakerLoader loads it" in (one.hint or "") for one in engine.validate(encoder))


def test_weights_that_lack_are_named(engine, models):
    whole = {f"id_encoder.{name}": one for name, one in tiny_photomaker.weights().items()}
    del whole["id_encoder.fuse_module.mlp2.fc1.bias"]
    save_file(whole, models / "photomaker" / "cut.safetensors")
    with pytest.raises(gf.GraphFlowError, match=r"fuse_module\.mlp2\.fc1\.bias"):
        engine.run(gf.Workflow.from_json(graph(file="cut.safetensors")), targets=["9"])


def test_text_encoders_of_another_model_are_a_problem_before_the_run_where_the_image_counts(engine, loaded):
    (problem,) = problems(engine, graph(checkpoint=OTHER))
    assert (problem.node, problem.input) == ("9", "clip") and "128 wide" in problem.message
    assert not problems(engine, graph(checkpoint=OTHER, text="a woman"))
    settings, photomaker, _ = loaded
    other = gf.Workflow.from_json(graph(checkpoint=OTHER))
    clip = engine.run(other, targets=["4"])["4"].outputs["CLIP"]
    with pytest.raises(gf.GraphFlowError, match="CLIP-L and CLIP-G"):  # where the text comes by a link
        nodes.photomaker_encode(settings, photomaker, picture(), clip)


def test_an_image_and_a_place_in_the_prompt_must_be_there(engine, loaded):
    without = graph()
    del without["9"]["inputs"]["image"]
    (problem,) = problems(engine, without)
    assert (problem.node, problem.input) == ("9", "image")
    settings, photomaker, clip = loaded
    with pytest.raises(gf.GraphFlowError, match="behind 80 words, and the prompt has only 77 tokens"):
        nodes.photomaker_encode(settings, photomaker, picture(), clip, "( ) " * 40 + "photomaker")
