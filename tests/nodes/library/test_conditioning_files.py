"""Conditionings in files: what is loaded leads a model as what was saved did."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

import graphflow as gf

KEPT = {
    "guidance": 3.5,
    "reference_latents_method": "index",
    "strength": 2,
    "default": True,
    "reference_latents": [torch.full((1, 4, 2, 2), number / 7) for number in range(11)],
    "pooled_output": torch.rand(1, 8, generator=torch.Generator().manual_seed(0)),
    "t5xxl_ids": torch.arange(5),
    "not_set": None,
}


@gf.node("TestConditioning", category="test", version="1")
def conditioning_of(kind: str) -> gf.Conditioning:
    """Conditionings that the library's nodes make only with large models."""
    states = torch.rand(1, 3, 6, generator=torch.Generator().manual_seed(1))
    extra = {"kept": KEPT, "area": {"area": (8, 8, 0, 0)}}.get(kind, {})
    return [(states, extra)] * (2 if kind == "two" else 1)


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture
def engine(tmp_path):
    models = tmp_path / "models"
    (models / "embeddings").mkdir(parents=True)
    registry = gf.Registry.installed()
    registry.add(conditioning_of)
    settings = gf.Settings(models=(models,), output_dir=tmp_path / "out", temp_dir=tmp_path, device="cpu")
    with gf.Engine(registry, settings=settings) as engine:
        yield engine


def saved(engine, source, name="saved.safetensors"):
    """Run SaveConditioning and move its file to where ConditioningLoader looks."""
    nodes = {"1": source, "2": node("SaveConditioning", conditioning=["1", 0], filename_prefix="conditioning/ComfyUI")}
    result = engine.run(gf.Workflow.from_json(nodes), targets=["1", "2"])
    (path,) = result["2"].paths
    assert path.relative_to(engine.settings.output_dir).as_posix().startswith("conditioning/ComfyUI_0000")
    shutil.move(path, engine.settings.models[0] / "embeddings" / name)
    return result["1"].outputs["CONDITIONING"]


def loaded(engine, name="saved.safetensors"):
    nodes = {"1": node("ConditioningLoader", conditioning_name=name)}
    return engine.run(gf.Workflow.from_json(nodes), targets=["1"])["1"].outputs["CONDITIONING"]


def test_a_conditioning_comes_back_with_its_options_and_lists(engine):
    given = saved(engine, node("TestConditioning", kind="kept"))
    ((states, options),) = loaded(engine)
    assert torch.equal(states, given[0][0])
    assert options.keys() == KEPT.keys() - {"not_set"}
    references = options.pop("reference_latents")
    assert len(references) == 11 and all(
        torch.equal(a, b) for a, b in zip(references, KEPT["reference_latents"], strict=True)
    )
    for name, value in options.items():
        want = KEPT[name]
        assert (
            torch.equal(value, want) if isinstance(want, torch.Tensor) else value == want and type(value) is type(want)
        )


def test_a_loaded_prompt_leads_a_model_without_its_text_encoder(engine):
    checkpoint = {"4": node("CheckpointLoaderSimple", ckpt_name="graphflow-tiny")}
    texts = {
        "6": node("CLIPTextEncode", clip=["4", 1], text="a red apple"),
        "7": node("CLIPTextEncode", clip=["4", 1], text=""),
    }
    sampler = {
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "3": node(
            "KSampler",
            seed=1,
            steps=2,
            cfg=4.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
    }
    for key, name in (("6", "a.safetensors"), ("7", "b.safetensors")):
        nodes = {**checkpoint, **texts, "s": node("SaveConditioning", conditioning=[key, 0], filename_prefix="x")}
        (path,) = engine.run(gf.Workflow.from_json(nodes), targets=["s"])["s"].paths
        shutil.move(path, engine.settings.models[0] / "embeddings" / name)
    files = {
        key: node("ConditioningLoader", conditioning_name=f"{n}.safetensors") for key, n in (("6", "a"), ("7", "b"))
    }
    want, got = (
        engine.run(gf.Workflow.from_json({**checkpoint, **sampler, **prompts}), targets=["3"])
        for prompts in (texts, files)
    )
    assert torch.equal(got["3"].outputs["LATENT"]["samples"], want["3"].outputs["LATENT"]["samples"])
    assert not [event for event in got.models if event.part.startswith("text.")]


@pytest.mark.parametrize(("kind", "code"), [("two", "several_conditionings"), ("area", "cannot_be_saved")])
def test_what_a_file_cannot_hold_is_refused(engine, kind, code):
    with pytest.raises(gf.GraphFlowError) as error:
        saved(engine, node("TestConditioning", kind=kind))
    (problem,) = error.value.problems
    assert problem.code == code and problem.input == "conditioning" and problem.hint


def test_another_file_is_a_problem_before_the_run(engine):
    embeddings = engine.settings.models[0] / "embeddings"
    save_file({"emb_params": torch.zeros(2, 768)}, embeddings / "word.safetensors")
    nodes = {
        "1": node("ConditioningLoader", conditioning_name="word.safetensors"),
        "2": node("PreviewAny", source=["1", 0]),
    }
    (problem,) = engine.validate(gf.Workflow.from_json(nodes))
    assert (
        problem.code == "wrong_file"
        and problem.input == "conditioning_name"
        and "not a conditioning" in problem.message
    )
    save_file({"conditioning": torch.zeros(4, 8)}, embeddings / "flat.safetensors")
    with pytest.raises(gf.GraphFlowError, match=r"\[4, 8\]"):
        loaded(engine, "flat.safetensors")
    save_file({"conditioning": torch.zeros(1, 4, 8)}, embeddings / "bad.safetensors", {"conditioning_options": "[1]"})
    with pytest.raises(gf.GraphFlowError, match="not a JSON object"):
        loaded(engine, "bad.safetensors")
