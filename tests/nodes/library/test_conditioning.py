"""Prompts and images to conditioning, and the loaders of text encoders and denoisers of their own."""

import json

import pytest
import torch
from graphflow_nodes.model.conditioning import from_wire
from safetensors.torch import save_file

import graphflow as gf
from tests.nodes.families import tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """SDXL, its refiner and an inpainting model as checkpoints, and the parts of SDXL as files of their own."""
    root = tmp_path_factory.mktemp("models")
    for name, channels in (("sdxl", 4), ("sdxl_refiner", 4), ("sd1", 9), ("sd1", 8)):
        tiny.tiny(name, channels).save(root / "checkpoints" / f"{name}_{channels}.safetensors")
    weights = tiny.tiny("sdxl").weights
    for folder, file, prefix in (
        ("diffusion_models", "unet", tiny.UNET),
        ("text_encoders", "l", "conditioner.embedders.0.transformer."),
        ("text_encoders", "g", "conditioner.embedders.1.model."),
        ("vae", "vae", tiny.VAE),
    ):
        (root / folder).mkdir(exist_ok=True)
        part = {name.removeprefix(prefix): one for name, one in weights.items() if name.startswith(prefix)}
        save_file(part, root / folder / f"{file}.safetensors")
    return root


def run(models, nodes, target="1", slot=None):
    settings = gf.Settings(models=(models,), output_dir=models, temp_dir=models)
    with gf.Engine(settings=settings) as engine:
        outputs = list(engine.run(gf.Workflow.from_json(nodes), targets=[target])[target].outputs.values())
    return outputs[slot or 0] if slot is not None or len(outputs) == 1 else outputs


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


SIZES = {"width": 1216, "height": 832, "crop_w": 16, "crop_h": 40, "target_width": 1152, "target_height": 896}


def encoded(models, text_g, text_l):
    sdxl = node("CLIPTextEncodeSDXL", clip=["4", 1], text_g=text_g, text_l=text_l, **SIZES)
    return run(models, {"4": node("CheckpointLoaderSimple", ckpt_name="sdxl_4.safetensors"), "1": sdxl})[0]


def test_sdxl_has_a_prompt_for_each_encoder_and_states_its_sizes(models):
    text, options = encoded(models, "a fox", "a photograph")
    assert text.shape == (1, 77, 128) and options["pooled_output"].shape == (1, 64)
    assert {name: options[name] for name in SIZES} == SIZES
    other, more = encoded(models, "a cat", "a photograph")
    assert torch.equal(other[..., :64], text[..., :64]) and not torch.equal(other[..., 64:], text[..., 64:])
    assert not torch.equal(more["pooled_output"], options["pooled_output"])
    (batch,) = from_wire([(text, options)])
    assert batch[0].extra == SIZES


def test_the_shorter_of_two_prompts_is_filled_with_empty_chunks(models):
    text, _ = encoded(models, "fox " * 80, "a")
    empty, _ = encoded(models, "", "")
    assert text.shape == (1, 154, 128) and torch.equal(text[:, 77:, :64], empty[..., :64])


def test_a_plain_prompt_goes_to_both_encoders(models):
    loader = node("CheckpointLoaderSimple", ckpt_name="sdxl_4.safetensors")
    plain = run(models, {"4": loader, "1": node("CLIPTextEncode", clip=["4", 1], text="a fox")})
    assert torch.equal(plain[0][0], encoded(models, "a fox", "a fox")[0])


def test_the_refiner_has_a_score_and_the_encoder_g_alone(models):
    nodes = {
        "4": node("CheckpointLoaderSimple", ckpt_name="sdxl_refiner_4.safetensors"),
        "1": node("CLIPTextEncodeSDXLRefiner", clip=["4", 1], text="a fox", ascore=5.5, width=640, height=512),
    }
    ((text, options),) = run(models, nodes)
    assert text.shape == (1, 77, 64)
    assert (options["aesthetic_score"], options["width"], options["height"]) == (5.5, 640, 512)


def test_parts_of_their_own_give_what_the_checkpoint_gives(models):
    def image(model, clip, vae, **loaders):
        nodes = {
            **loaders,
            "5": node("EmptyLatentImage", width=64, height=64),
            "6": node("CLIPTextEncode", clip=clip, text="a fox"),
            "7": node("KSampler", model=model, positive=["6", 0], negative=["6", 0], latent_image=["5", 0], steps=2),
            "1": node("VAEDecode", samples=["7", 0], vae=vae),
        }
        return run(models, nodes)

    whole = image(["4", 0], ["4", 1], ["4", 2], **{"4": node("CheckpointLoaderSimple", ckpt_name="sdxl_4.safetensors")})
    parts = image(
        ["a", 0],
        ["b", 0],
        ["c", 0],
        a=node("UNETLoader", unet_name="unet.safetensors"),
        b=node("DualCLIPLoader", clip_name1="g.safetensors", clip_name2="l.safetensors", type="sdxl"),
        c=node("VAELoader", vae_name="vae.safetensors"),
    )
    assert torch.equal(whole, parts)


def test_one_text_encoder_is_known_from_its_file(models):
    clip = run(models, {"1": node("CLIPLoader", clip_name="l.safetensors", type="stable_diffusion")})
    assert clip.family.name == "sd1"
    with pytest.raises(gf.GraphFlowError, match="not the text encoders of one family, as type flux takes them"):
        run(models, {"1": node("DualCLIPLoader", clip_name1="g.safetensors", clip_name2="l.safetensors", type="flux")})


def test_a_model_whose_weights_are_to_be_held_in_8_bits_is_another_model(models):
    plain, held, fast = (
        run(models, {"1": node("UNETLoader", unet_name="unet.safetensors", weight_dtype=dtype)})
        for dtype in ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast")
    )
    assert held.dtype == "fp8_e4m3fn" and held == fast and held.identity() != plain.identity()
    assert held.weights_key("denoiser") != plain.weights_key("denoiser")


def with_image(models, type, checkpoint, size=(70, 64), **inputs):
    """Positive, negative and latent of a node that takes an image, here a grey ramp."""
    width, height = size
    nodes = {
        "4": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "5": node("EmptyImage", width=width, height=height, color=0x336699),
        "6": node("CLIPTextEncode", clip=["4", 1], text="a fox"),
        "8": node("SolidMask", value=1.0, width=width, height=height),
        "1": node(type, positive=["6", 0], negative=["6", 0], vae=["4", 2], pixels=["5", 0], **inputs),
        "9": node("VAEEncode", pixels=["5", 0], vae=["4", 2]),
        "2": node("KSampler", model=["4", 0], positive=["1", 0], negative=["1", 1], latent_image=["1", 2], steps=2),
    }
    outputs = run(models, nodes, "1")
    sampled = run(models, nodes, "2")["samples"]
    plain = run(models, {key: nodes[key] for key in ("4", "5", "9")}, "9")["samples"]
    return (*outputs, sampled, plain)


def test_an_inpainting_model_is_given_the_mask_and_the_image_without_what_it_covers(models):
    positive, negative, latent, sampled, plain = with_image(
        models, "InpaintModelConditioning", "sd1_9.safetensors", mask=["8", 0]
    )
    for (_, options), *_ in (positive, negative):
        assert options["concat_latent_image"].shape == (1, 4, 8, 8) and options["concat_mask"].shape[-2:] == (64, 64)
        assert not torch.equal(options["concat_latent_image"], plain)
    assert torch.equal(latent["samples"], plain) and latent["noise_mask"].min() == 1.0
    assert sampled.shape == plain.shape and sampled.isfinite().all()
    _, _, without, _, _ = with_image(
        models, "InpaintModelConditioning", "sd1_9.safetensors", mask=["8", 0], noise_mask=False
    )
    assert "noise_mask" not in without


def test_an_editing_model_is_given_the_image_and_starts_from_nothing(models):
    positive, _, latent, sampled, plain = with_image(models, "InstructPixToPixConditioning", "sd1_8.safetensors")
    assert torch.equal(positive[0][1]["concat_latent_image"], plain) and not latent["samples"].any()
    assert sampled.isfinite().all() and sampled.std() > 0


def test_a_conditioning_survives_the_cache(models, tmp_path):
    nodes = {
        "4": node("CheckpointLoaderSimple", ckpt_name="sdxl_4.safetensors"),
        "1": node("CLIPTextEncodeSDXL", clip=["4", 1], text_g="a", text_l="b", **SIZES),
    }
    results = []
    for _ in range(2):
        with gf.Engine(settings=gf.Settings(models=(models,)), cache=gf.Cache(tmp_path / "cache")) as engine:
            results.append(engine.run(gf.Workflow.from_json(nodes), targets=["1"]))
    first, again = (found["1"].outputs["CONDITIONING"][0] for found in results)
    assert torch.equal(first[0], again[0]) and json.dumps(sorted(first[1])) == json.dumps(sorted(again[1]))
    assert "1" not in results[1].timings
