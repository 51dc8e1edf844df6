"""IP-Adapters as nodes, on small weights: what users link, and what is refused."""

import pytest
import torch
from graphflow_nodes.library import ip_adapter_images as images

import graphflow as gf
from tests.nodes.families import tiny, tiny_ip_adapter, tiny_vision


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters") / "models"
    sd1 = tiny.tiny("sd1")
    sd1.save(folder / "checkpoints" / "sd1.safetensors")
    tiny_vision.save(folder / "clip_vision" / "vit.safetensors", layers=24)
    adapters = folder / "ipadapter"
    tiny_ip_adapter.save(adapters / "ip-adapter_sd15.safetensors", sd1.modules["denoiser"])
    tiny_ip_adapter.save(adapters / "ip-adapter-plus_sd15.safetensors", sd1.modules["denoiser"], "plus", encoder=64)
    tiny_ip_adapter.save(adapters / "wide.safetensors", sd1.modules["denoiser"], encoder=96)
    tiny_ip_adapter.save(adapters / "xl.safetensors", tiny.tiny("sdxl").modules["denoiser"])
    return folder


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture(scope="module")
def sample(models, tmp_path_factory):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu")) as engine:

        def run(more=None, model=("4", 0), **sampler):
            graph = {
                "4": node("CheckpointLoaderSimple", ckpt_name="sd1.safetensors"),
                "5": node("EmptyLatentImage", width=64, height=64),
                "6": node("CLIPTextEncode", clip=["4", 1], text="a fox"),
                "7": node("CLIPTextEncode", clip=["4", 1], text="a boat"),
                "i": node("EmptyImage", width=40, height=30, color=0x4080C0),
                "v": node("CLIPVisionLoader", clip_name="vit.safetensors"),
                "a": node("IPAdapterModelLoader", ipadapter_file="ip-adapter_sd15.safetensors"),
                "3": node(
                    "KSampler",
                    model=list(model),
                    positive=["6", 0],
                    negative=["7", 0],
                    latent_image=["5", 0],
                    **{"steps": 2, "cfg": 3.0, "seed": 1, **sampler},
                ),
                **(more or {}),
            }
            outputs = engine.run(gf.Workflow.from_json(graph), targets=["3"])["3"].outputs
            return next(iter(outputs.values()))["samples"]

        yield run


def advanced(**inputs):
    stated = {"model": ["4", 0], "ipadapter": ["a", 0], "image": ["i", 0], "clip_vision": ["v", 0], **inputs}
    return {"p": node("IPAdapterAdvanced", **stated)}


def test_an_image_changes_what_is_drawn_and_a_weight_of_0_does_not(sample):
    plain = sample()
    assert torch.equal(sample(advanced(weight=0.0), model=("p", 0)), plain)
    found = sample(advanced(weight=1.0), model=("p", 0))
    assert found.isfinite().all() and not torch.allclose(found, plain, atol=1e-2)
    assert torch.equal(sample(), plain)


def test_the_unified_loader_finds_adapter_and_encoder_by_themselves(sample):
    graph = {
        "u": node("IPAdapterUnifiedLoader", model=["4", 0], preset="STANDARD (medium strength)"),
        "p": node("IPAdapter", model=["u", 0], ipadapter=["u", 1], image=["i", 0], weight=1.0),
    }
    assert torch.equal(sample(graph, model=("p", 0)), sample(advanced(weight=1.0), model=("p", 0)))


def test_a_plus_adapter_sees_the_states_of_the_encoder(sample):
    graph = {
        "u": node("IPAdapterUnifiedLoader", model=["4", 0], preset="PLUS (high strength)"),
        "p": node("IPAdapter", model=["u", 0], ipadapter=["u", 1], image=["i", 0]),
    }
    found = sample(graph, model=("p", 0))
    assert found.isfinite().all() and not torch.allclose(found, sample(), atol=1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_type": "style transfer"},
        {"weight_type": "style transfer precise"},
        {"combine_embeds": "average", "image": ["b", 0]},
        {"embeds_scaling": "K+mean(V) w/ C penalty"},
        {"image_negative": ["i", 0]},
        {"attn_mask": ["m", 0]},
        {"end_at": 0.4},
    ],
)
def test_each_option_draws_something_else(sample, options):
    more = {
        "m": node("SolidMask", value=0.5, width=64, height=64),
        "j": node("EmptyImage", width=40, height=30, color=0xFFFFFF),
        "b": node("ImageBatch", image1=["i", 0], image2=["j", 0]),
    }
    found = sample({**more, **advanced(**options)}, model=("p", 0))
    assert found.isfinite().all() and not torch.equal(found, sample(advanced(), model=("p", 0)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (node("IPAdapterModelLoader", ipadapter_file="xl.safetensors"), "was made for this family|layers for texts"),
        (node("IPAdapterModelLoader", ipadapter_file="wide.safetensors"), "48 numbers, the IP-Adapter takes 96"),
    ],
)
def test_an_adapter_of_another_family_or_encoder_is_refused(sample, more, message):
    with pytest.raises(gf.GraphFlowError, match=message):
        sample({"a": more, **advanced()}, model=("p", 0))


def test_an_adapter_without_an_encoder_is_refused_with_what_to_do(sample):
    graph = {"p": node("IPAdapter", model=["4", 0], ipadapter=["a", 0], image=["i", 0])}
    with pytest.raises(gf.GraphFlowError, match="link CLIPVisionLoader to clip_vision"):
        sample(graph, model=("p", 0))


def test_a_file_of_another_kind_is_found_before_the_run(models):
    (models / "ipadapter" / "checkpoint.safetensors").write_bytes(
        (models / "checkpoints" / "sd1.safetensors").read_bytes()
    )
    graph = {"1": node("IPAdapterModelLoader", ipadapter_file="checkpoint.safetensors")}
    with gf.Engine(settings=gf.Settings(models=(models,))) as engine:
        (problem,) = [one for one in engine.validate(gf.Workflow.from_json(graph)) if one.node]
    assert problem.input == "ipadapter_file" and "Stable Diffusion 1.x" in problem.message


@pytest.mark.parametrize(
    ("position", "corner"),
    [("top", 0.0), ("bottom", 0.0), ("left", 0.0), ("right", 1.0), ("center", 0.5), ("pad", 0.0)],
)
def test_a_crop_keeps_its_part_of_an_image(position, corner):
    image = torch.zeros(1, 20, 40, 3)
    image[:, :, 20:] = 1.0
    if position == "center":
        corner = 0.0
    found = images.prep_image_for_clip_vision(image, "NEAREST", position)
    assert found.shape == (1, 224, 224, 3)
    assert float(found[0, 112, 0, 0]) == corner or position == "pad"
    if position == "pad":
        assert not found[0, :50].any() and float(found[0, 112, 220, 0]) == 1.0


def test_sharpening_leaves_what_is_even_and_makes_edges_steeper():
    even, grey = torch.full((1, 30, 30, 3), 0.5), torch.full((1, 224, 224, 3), 128 / 255)
    assert torch.allclose(images.prep_image_for_clip_vision(even, "BOX", "center", 1.0), grey, atol=1e-3)
    ramp = torch.linspace(0.2, 0.8, 224).repeat(224, 1)[None, :, :, None].expand(1, 224, 224, 3).contiguous()
    ramp[:, :, 112:] += 0.1
    plain, sharp = (images.prep_image_for_clip_vision(ramp, "NEAREST", "center", amount) for amount in (0.0, 1.0))
    assert float(sharp[0, 100, 111, 0]) < float(plain[0, 100, 111, 0])
    assert float(sharp[0, 100, 112, 0]) > float(plain[0, 100, 112, 0])
