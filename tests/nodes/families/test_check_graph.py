"""Before a run: whether the models of a graph belong together, from the headers of their files alone."""

from pathlib import Path

import pytest

import graphflow as gf
from tests.graphs import graph
from tests.nodes.families import controls, tiny, tiny_flow, tiny_flux2, tiny_qwen

Z, LUMINA, QWEN3, GEMMA = (
    "z_image_turbo_bf16.safetensors",
    "lumina_2_model_bf16.safetensors",
    "qwen_3_4b.safetensors",
    "gemma_2_2b_fp16.safetensors",
)
EDIT, VISION, WAN = (
    "qwen_image_edit_2511_bf16.safetensors",
    "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    "qwen_image_vae.safetensors",
)
KLEIN, AE = "flux-2-klein-4b.safetensors", "ae.safetensors"


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    place = tmp_path_factory.mktemp("graphs")
    models = place / "models"
    for name in (Z, LUMINA, QWEN3, GEMMA, AE):
        tiny_flow.save(models, name)
    for name in (EDIT, VISION, WAN):
        tiny_qwen.save(models, name)
    tiny_flux2.save(models, KLEIN)
    tiny.tiny("sd1").save(models / "checkpoints" / "sd1.safetensors")
    tiny.tiny("sdxl").save(models / "checkpoints" / "sdxl.safetensors")
    controls.control("sd1").save(models / "controlnet" / "canny.safetensors")
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu", output_dir=place), cache=gf.Cache()) as engine:
        yield engine.check


def sampled(model, clip, vae=AE, type="lumina2", **more):
    """A model, a text encoder and a VAE by the names of their files, as every workflow has them."""
    nodes = {
        "model": ("UNETLoader", {"unet_name": model}),
        "clip": ("CLIPLoader", {"clip_name": clip, "type": type}),
        "vae": ("VAELoader", {"vae_name": vae}),
        "text": ("CLIPTextEncode", {"clip": "@clip", "text": "a fox"}),
        "none": ("ConditioningZeroOut", {"conditioning": "@text"}),
        "empty": ("EmptySD3LatentImage", {"width": 64, "height": 64}),
        "sample": ("KSampler", {"model": "@model", "positive": "@text", "negative": "@none", "latent_image": "@empty"}),
        "decode": ("VAEDecode", {"samples": "@sample", "vae": "@vae"}),
        "save": ("SaveImage", {"images": "@decode"}),
    }
    return graph(**{**nodes, **more})


def found(check, made):
    checked = check(made)
    return {(problem.node, problem.input, problem.code): problem for problem in checked.problems}


def test_what_belongs_together_is_not_mentioned(check):
    for made in (
        sampled(Z, QWEN3),
        sampled(LUMINA, GEMMA),
        sampled(EDIT, VISION, WAN, "qwen_image"),
        sampled(
            KLEIN,
            QWEN3,
            AE,
            "flux2",
            decode=("PreviewAny", {"source": "@sample"}),
            save=("PreviewAny", {"source": "@text"}),
        ),
    ):
        checked = check(made)
        assert not checked.problems and not checked.warnings


def test_the_wrong_encoder_is_named_with_both_widths_and_both_files(check):
    problems = found(check, sampled(LUMINA, QWEN3))
    problem = problems["sample", "positive", "wrong_encoder"]
    assert problem.message == (
        "the prompt is encoded by Qwen3 of qwen_3_4b.safetensors (32 wide), but Lumina 2 "
        "(lumina_2_model_bf16.safetensors) takes Gemma 2 (64 wide)"
    )
    assert "CLIPLoader" in problem.hint and ("sample", "negative", "wrong_encoder") in problems


def test_an_encoder_of_the_right_kind_in_another_size_is_named_with_both_widths(check, tmp_path):
    problem = found(check, sampled(KLEIN, QWEN3, type="lumina2"))["sample", "positive", "wrong_encoder"]
    assert "32 wide" in problem.message and "takes 96" in problem.message
    assert problem.hint == "set the loader's type to flux2"


def test_a_negative_that_is_not_asked_may_be_of_anybody(check):
    other = {
        "gemma": ("CLIPLoader", {"clip_name": GEMMA, "type": "lumina2"}),
        "none": ("CLIPTextEncode", {"clip": "@gemma", "text": ""}),
    }
    sampler = {"model": "@model", "positive": "@text", "negative": "@none", "latent_image": "@empty"}
    without = sampled(Z, QWEN3, **other, sample=("KSampler", {**sampler, "cfg": 1.0}))
    assert not found(check, without)
    assert list(found(check, sampled(Z, QWEN3, **other))) == [("sample", "negative", "wrong_encoder")]


def test_the_checks_look_through_nodes_that_change_a_model_or_a_prompt(check):
    more = {
        "shifted": ("ModelSamplingAuraFlow", {"model": "@model", "shift": 3.0}),
        "guided": ("CFGGuider", {"model": "@shifted", "positive": "@text", "negative": "@none", "cfg": 2.0}),
        "sample": (
            "SamplerCustomAdvanced",
            {
                "noise": "@noise",
                "guider": "@guided",
                "sampler": "@sampler",
                "sigmas": "@sigmas",
                "latent_image": "@image",
            },
        ),
        "noise": ("RandomNoise", {"noise_seed": 1}),
        "sampler": ("KSamplerSelect", {"sampler_name": "euler"}),
        "sigmas": ("BasicScheduler", {"model": "@shifted", "scheduler": "simple", "steps": 2}),
        "picture": ("EmptyImage", {"width": 64, "height": 64}),
        "image": ("VAEEncode", {"pixels": "@picture", "vae": "@wan"}),
        "wan": ("VAELoader", {"vae_name": WAN}),
    }
    problems = found(check, sampled(LUMINA, QWEN3, **more))
    assert ("guided", "positive", "wrong_encoder") in problems
    message = problems["sample", "latent_image", "wrong_latent"].message
    assert WAN in message and LUMINA in message and "axis of frames" in message


def test_a_vae_of_other_channels_is_found_at_both_ends(check):
    small = {
        "checkpoint": ("CheckpointLoaderSimple", {"ckpt_name": "sd1.safetensors"}),
        "decode": ("VAEDecode", {"samples": "@sample", "vae": "@checkpoint:2"}),
        "image": ("EmptyImage", {"width": 64, "height": 64}),
        "empty": ("VAEEncode", {"pixels": "@image", "vae": "@checkpoint:2"}),
    }
    problems = found(check, sampled(Z, QWEN3, **small))
    message = problems["decode", "samples", "wrong_latent"].message
    assert message == f"the latent of {Z} has 16 channels, the VAE sd1.safetensors takes 4 channels"
    assert ("sample", "latent_image", "wrong_latent") in problems


def test_reference_images_for_a_model_that_sees_none(check):
    more = {
        "image": ("EmptyImage", {"width": 64, "height": 64}),
        "latent": ("VAEEncode", {"pixels": "@image", "vae": "@vae"}),
        "edit": ("ReferenceLatent", {"conditioning": "@text", "latent": "@latent"}),
        "none": ("ConditioningZeroOut", {"conditioning": "@edit"}),
        "sample": ("KSampler", {"model": "@model", "positive": "@edit", "negative": "@none", "latent_image": "@empty"}),
    }
    problem = found(check, sampled(Z, QWEN3, **more))["sample", "positive", "no_references"]
    assert "Z-Image" in problem.message and "ReferenceLatent" not in problem.message
    assert not found(check, sampled(EDIT, VISION, WAN, "qwen_image", **more))


def controlled(checkpoint):
    return graph(
        checkpoint=("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        text=("CLIPTextEncode", {"clip": "@checkpoint:1", "text": "a fox"}),
        image=("EmptyImage", {"width": 64, "height": 64}),
        control=("ControlNetLoader", {"control_net_name": "canny.safetensors"}),
        led=(
            "ControlNetApplyAdvanced",
            {"positive": "@text", "negative": "@text", "control_net": "@control", "image": "@image"},
        ),
        empty=("EmptyLatentImage", {"width": 64, "height": 64}),
        sample=(
            "KSampler",
            {"model": "@checkpoint", "positive": "@led:0", "negative": "@led:1", "latent_image": "@empty"},
        ),
        decode=("VAEDecode", {"samples": "@sample", "vae": "@checkpoint:2"}),
        save=("SaveImage", {"images": "@decode"}),
    )


def test_a_control_network_of_another_family(check):
    assert not found(check, controlled("sd1.safetensors"))
    problem = found(check, controlled("sdxl.safetensors"))["sample", "positive", "wrong_control"]
    assert problem.message.startswith("canny.safetensors: ")


def test_a_model_that_writes_no_text_is_found_before_the_run(check, tmp_path):
    made = graph(
        clip=("CheckpointLoaderSimple", {"ckpt_name": "sd1.safetensors"}),
        write=("TextGenerate", {"clip": "@clip:1", "prompt": "a fox"}),
        show=("PreviewAny", {"source": "@write"}),
    )
    assert ("write", "clip", "no_language_model") in found(check, made)


def test_a_lora_of_another_family(check, tmp_path_factory):
    import torch
    from safetensors.torch import save_file

    models = Path(check.__self__.settings.models[0])
    name = "transformer.single_transformer_blocks.0.attn.to_q.lora_{}.weight"
    (models / "loras").mkdir(exist_ok=True)
    save_file(
        {name.format("A"): torch.zeros(4, 64), name.format("B"): torch.zeros(64, 4)},
        models / "loras" / "flux.safetensors",
    )
    more = {
        "lora": ("LoraLoaderModelOnly", {"model": "@model", "lora_name": "flux.safetensors", "strength_model": 1.0}),
        "sample": ("KSampler", {"model": "@lora", "positive": "@text", "negative": "@none", "latent_image": "@empty"}),
    }
    problem = found(check, sampled(Z, QWEN3, **more))["lora", "lora_name", "lora_does_not_fit"]
    assert "0 of 1 modules of flux.safetensors fit: this file is for FLUX.1, the model is Z-Image" in problem.message


def test_nothing_is_read_but_headers_and_no_digest_is_taken(check, monkeypatch):
    from graphflow.files.digests import Digests

    monkeypatch.setattr(Digests, "of", lambda self, path, watch=None: pytest.fail(f"{path} was read"))
    assert not found(check, sampled(Z, QWEN3))
