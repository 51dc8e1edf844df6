"""LoRA files for FLUX.1, Stable Diffusion 3, Qwen-Image and Z-Image: names of all trainers, and merged against by rows
over whole samplings."""

import pytest
import torch
from graphflow_nodes.families.opened import open_model
from graphflow_nodes.patches.lora import LoraFile, fit_to
from safetensors.torch import save_file

import graphflow as gf
from tests.nodes.families import tiny_flow, tiny_qwen
from tests.nodes.families import tiny_transformers as tt

from .test_lora import kohya

DENOISERS = {
    "flux": "diffusion_models/flux1-dev.safetensors",
    "sd3": f"checkpoints/{tt.SD35}",
    "qwen_image": "diffusion_models/qwen_image_2512_fp8_e4m3fn.safetensors",
    "z_image": "diffusion_models/z_image_turbo_bf16.safetensors",
}
WIDTH = {"flux": 64, "sd3": 64, "qwen_image": 64, "z_image": 96}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers") / "models"
    flux = ("flux1-dev.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors", "ae.safetensors")
    tt.save_models(folder, *flux, tt.SD35)
    for name in ("qwen_image_2512_fp8_e4m3fn.safetensors", "qwen_2.5_vl_7b_fp8_scaled.safetensors"):
        tiny_qwen.save(folder, name)
    for name in ("z_image_turbo_bf16.safetensors", "qwen_3_4b.safetensors"):
        tiny_flow.save(folder, name)
    (folder / "loras").mkdir()
    return folder


@pytest.fixture(scope="module")
def engine(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu", output_dir=out)) as engine:
        yield engine


@pytest.fixture(scope="module")
def opened(models, engine):
    return {family: open_model(models / name, engine.settings).model for family, name in DENOISERS.items()}


def matched(models, opened, family, name, out=None, into=None):
    width = WIDTH[family]
    path = models / "loras" / "one.safetensors"
    save_file(kohya(name, out or width, into or width), path)
    found = fit_to(LoraFile(str(path), f"{family} {name}"), opened[family])
    assert (found.unknown, found.misshapen) == ((), ())
    (match,) = found.matches
    return match.places


@pytest.mark.parametrize(
    ("family", "name", "module"),
    [
        ("flux", "transformer.transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q"),
        ("flux", "lora_transformer_transformer_blocks_0_attn_to_q", "transformer_blocks.0.attn.to_q"),
        ("flux", "lora_unet_double_blocks_0_img_attn_proj", "transformer_blocks.0.attn.to_out.0"),
        ("flux", "diffusion_model.double_blocks.1.txt_attn.proj", "transformer_blocks.1.attn.to_add_out"),
        ("flux", "base_model.model.transformer_blocks.0.attn.to_v", "transformer_blocks.0.attn.to_v"),
        ("sd3", "transformer.transformer_blocks.0.attn.to_k", "transformer_blocks.0.attn.to_k"),
        ("sd3", "lora_unet_joint_blocks_0_x_block_attn_proj", "transformer_blocks.0.attn.to_out.0"),
        ("sd3", "diffusion_model.joint_blocks.0.context_block.attn.proj", "transformer_blocks.0.attn.to_add_out"),
        ("qwen_image", "transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q"),
        ("qwen_image", "transformer.transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q"),
        ("qwen_image", "diffusion_model.transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q"),
        ("qwen_image", "lora_unet_transformer_blocks_0_attn_to_q", "transformer_blocks.0.attn.to_q"),
        ("qwen_image", "lycoris_transformer_blocks_0_attn_to_q", "transformer_blocks.0.attn.to_q"),
        ("z_image", "transformer.layers.0.attention.to_q", "layers.0.attention.to_q"),
        ("z_image", "diffusion_model.layers.1.attention.out", "layers.1.attention.to_out.0"),
        ("z_image", "lora_unet_layers_0_attention_to_k", "layers.0.attention.to_k"),
        ("z_image", "lycoris_layers_0_attention_to_v", "layers.0.attention.to_v"),
    ],
)
def test_every_trainers_name_of_a_module_is_known(family, name, module, models, opened):
    (place,) = matched(models, opened, family, name)
    assert (place.module, place.rows) == (module, None)


@pytest.mark.parametrize(
    ("family", "name", "block"),
    [
        ("flux", "lora_unet_double_blocks_0_img_attn_qkv", "transformer_blocks.0.attn"),
        ("flux", "diffusion_model.double_blocks.0.img_attn.qkv", "transformer_blocks.0.attn"),
        ("sd3", "lora_unet_joint_blocks_0_x_block_attn_qkv", "transformer_blocks.0.attn"),
        ("z_image", "diffusion_model.layers.0.attention.qkv", "layers.0.attention"),
    ],
)
def test_a_fused_weight_goes_into_its_thirds(family, name, block, models, opened):
    width = WIDTH[family]
    places = matched(models, opened, family, name, out=3 * width)
    thirds = [((number * width), (number + 1) * width) for number in range(3)]
    assert [(place.module, place.rows) for place in sorted(places, key=lambda one: one.rows)] == [
        (f"{block}.to_{letter}", rows) for letter, rows in zip("qkv", thirds, strict=True)
    ]


def test_a_single_block_of_flux_is_cut_into_attention_and_feed_forward(models, opened):
    places = matched(models, opened, "flux", "lora_unet_single_blocks_0_linear1", out=3 * 64 + 256)
    found = {place.module.rpartition("single_transformer_blocks.0.")[2]: place.rows for place in places}
    assert found == {
        "attn.to_q": (0, 64),
        "attn.to_k": (64, 128),
        "attn.to_v": (128, 192),
        "proj_mlp": (192, 448),
    }


def node(kind, /, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(family, kind):
    """A sampling of three steps, under a LoRA that `kind` loads."""
    size = {"width": 64, "height": 64}
    encoders = {
        "flux": {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp16.safetensors", "type": "flux"},
        "qwen_image": {"clip_name": "qwen_2.5_vl_7b_fp8_scaled.safetensors", "type": "qwen_image"},
        "z_image": {"clip_name": "qwen_3_4b.safetensors", "type": "lumina2"},
    }
    if family == "sd3":
        loaders = {"1": node("CheckpointLoaderSimple", ckpt_name=tt.SD35)}
        clip = ["1", 1]
    else:
        kinds = {"flux": "DualCLIPLoader"}
        loaders = {
            "1": node("UNETLoader", unet_name=DENOISERS[family].partition("/")[2]),
            "2": node(kinds.get(family, "CLIPLoader"), **encoders[family]),
        }
        clip = ["2", 0]
    return {
        **loaders,
        "l": node(kind, model=["1", 0], lora_name=f"{family}.safetensors", strength_model=0.7),
        "p": node("CLIPTextEncode", clip=clip, text="a fox in the snow"),
        "n": node("CLIPTextEncode", clip=clip, text=""),
        "e": node("EmptySD3LatentImage", **size),
        "k": node(
            "KSampler",
            model=["l", 0],
            positive=["p", 0],
            negative=["n", 0],
            latent_image=["e", 0],
            seed=1,
            steps=3,
            cfg=3.0,
            sampler_name="euler",
            scheduler="simple",
        ),
    }


MODULES = {
    "flux": ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.attn.to_v"),
    "sd3": ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_out.0"),
    "qwen_image": ("transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.add_k_proj"),
    "z_image": ("layers.0.attention.to_q", "layers.1.attention.to_out.0"),
}


@pytest.mark.parametrize("family", list(MODULES))
def test_merged_and_by_rows_agree_over_a_whole_sampling(family, models, engine):
    tensors = {}
    for number, module in enumerate(MODULES[family]):
        tensors |= kohya(f"transformer.{module}", WIDTH[family], WIDTH[family], salt=number)
    save_file(tensors, models / "loras" / f"{family}.safetensors")

    def run(kind):
        outputs = engine.run(gf.Workflow.from_json(graph(family, kind)), targets=["k"])["k"].outputs
        return next(iter(outputs.values()))["samples"]

    merged, by_rows = run("LoraLoaderModelOnly"), run("LoraLoaderBypassModelOnly")
    without = graph(family, "LoraLoaderModelOnly")
    without["l"]["inputs"]["strength_model"] = 0.0
    outputs = engine.run(gf.Workflow.from_json(without), targets=["k"])["k"].outputs
    plain = next(iter(outputs.values()))["samples"]
    assert float((merged - by_rows).abs().max() / merged.std()) < 1e-4
    assert float((merged - plain).abs().max() / plain.std()) > 1e-3, "the file changes what is drawn"


def test_a_hook_on_flux_is_the_file_by_rows_and_acts_by_mask_and_by_range(models, engine):
    tensors = kohya("transformer.transformer_blocks.0.attn.to_q", WIDTH["flux"], WIDTH["flux"], salt=3)
    save_file(tensors, models / "loras" / "flux.safetensors")

    def run(hooked=True, **options):
        nodes = graph("flux", "LoraLoaderBypassModelOnly")
        if hooked:
            nodes["k"]["inputs"] |= {"model": ["1", 0], "positive": ["hp", 0], "negative": ["hn", 0]}
            nodes["h"] = node("CreateHookLoraModelOnly", lora_name="flux.safetensors", strength_model=0.7)
            nodes["m"] = node("SolidMask", value=0.5, width=64, height=64)
            nodes["t"] = node("ConditioningTimestepsRange", start_percent=0.0, end_percent=1.0)
            for side in "pn":
                given = {"cond_NEW": [side, 0], "hooks": ["h", 0], **options}
                nodes[f"h{side}"] = node("ConditioningSetProperties", **given)
        outputs = engine.run(gf.Workflow.from_json(nodes), targets=["k"])["k"].outputs
        return next(iter(outputs.values()))["samples"]

    by_rows = run(hooked=False)
    assert torch.equal(run(), by_rows) and torch.equal(run(timesteps=["t", 0]), by_rows)
    torch.testing.assert_close(run(mask=["m", 0]), by_rows, rtol=1e-5, atol=1e-5)
