"""`identify`: every kind of model file is known by its header, and what it needs is named."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from graphflow_nodes.families import FAMILIES
from graphflow_nodes.families.check_files import check_model_file
from graphflow_nodes.families.known import identify
from graphflow_nodes.files.folders import BUILTIN
from graphflow_nodes.files.header import read_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as gf

spec = importlib.util.spec_from_file_location("sparse", Path(__file__).parents[1] / "files" / "sparse.py")
sparse = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sparse)
blocks = sparse.blocks

NORM = "double_blocks.0.img_attn.norm.key_norm.scale"


@pytest.fixture
def seen(tmp_path):
    def look(tensors, metadata=None, dtype="BF16"):
        return identify(read_header(sparse.write(tmp_path / "model.safetensors", tensors, metadata, dtype)))

    return look


def unet(context=768, channels=4, width=320, label=None, prefix="model.diffusion_model."):
    found = {
        "input_blocks.0.0.weight": (width, channels, 3, 3),
        "input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight": (width, width),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (width, context),
        "middle_block.0.in_layers.2.weight": (width, width, 3, 3),
        "time_embed.0.weight": (4 * width, width),
        "out.2.weight": (4, width, 3, 3),
        **({"label_emb.0.0.weight": (4 * width, label)} if label else {}),
    }
    return {prefix + name: shape for name, shape in found.items()}


VAE = {
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    "first_stage_model.decoder.mid.block_1.norm1.weight": (512,),
}
CLIP_L = {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}
CLIP_G = {"transformer.resblocks.30.ln_1.weight": (1280,), "token_embedding.weight": (49408, 1280)}
CLIP_H = {"transformer.resblocks.22.ln_1.weight": (1024,), "token_embedding.weight": (49408, 1024)}


def put(prefix, tensors):
    return {prefix + name: shape for name, shape in tensors.items()}


CHECKPOINTS = {
    "sd 1.x": (unet() | VAE | put("cond_stage_model.transformer.", CLIP_L), "sd1", ""),
    "sd 2.x": (unet(1024) | VAE | put("cond_stage_model.model.", CLIP_H), "sd2", ""),
    "sd 1.x inpainting": (unet(channels=9) | VAE, "sd1", "inpainting"),
    "instruct-pix2pix": (unet(channels=8) | VAE, "sd1", "instruct-pix2pix"),
    "unCLIP": (unet(1024, label=2048) | VAE, "sd2", "unCLIP"),
    "sdxl": (
        unet(2048, label=2816)
        | VAE
        | put("conditioner.embedders.0.transformer.", CLIP_L)
        | put("conditioner.embedders.1.model.", CLIP_G),
        "sdxl",
        "",
    ),
    "refiner": (unet(1280, width=384, label=2560) | VAE, "sdxl_refiner", ""),
    "v-prediction": (
        unet(2048, label=2816) | VAE | {"v_pred": (), "ztsnr": ()},
        "sdxl",
        "v-prediction, zero terminal SNR",
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_known_with_its_parts(seen, name):
    tensors, family, variant = CHECKPOINTS[name]
    found = seen(tensors)
    assert (found.kind, found.family, found.folder) == ("checkpoint", family, "checkpoints")
    assert found.variant == variant
    assert found.part("denoiser").prefix == "model.diffusion_model."
    assert found.part("vae").title.startswith("AutoencoderKL (Stable Diffusion, SDXL)")


def test_the_encoders_of_a_checkpoint_are_named_and_those_it_lacks(seen):
    found = seen(CHECKPOINTS["sdxl"][0])
    assert [part.title for part in found.parts if part.name == "text encoder"] == ["CLIP-L", "CLIP-G (open_clip)"]
    assert found.missing == ()
    alone = seen(unet(2048, label=2816))
    assert alone.kind == "diffusion model" and alone.folder == "diffusion_models"
    assert alone.missing == ("text encoders: CLIP-L and CLIP-G", "VAE: the SDXL VAE")


FLUX = {
    NORM: (128,),
    "txt_in.weight": (3072, 4096),
    "img_in.weight": (3072, 64),
    "vector_in.in_layer.weight": (3072, 768),
}
FLUX2 = {
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    "double_stream_modulation_img.lin.weight": (18432, 3072),
}
HUNYUAN = {"txt_in.individual_token_refiner.blocks.0.norm1.weight": (3072,)}
LUMINA = {"noise_refiner.0.attention.k_norm.weight": (128,)}

DENOISERS = [
    (
        "sd3",
        "3.5 medium",
        {"joint_blocks.0.context_block.attn.qkv.weight": (1, 1), "joint_blocks.0.x_block.attn2.qkv.weight": (1, 1)},
    ),
    ("sd3", "3.5 large", blocks("joint_blocks.{}.", 38, context_block__attn__qkv__weight=(1, 1))),
    ("sd3", "3 medium", blocks("joint_blocks.{}.", 24, context_block__attn__qkv__weight=(1, 1))),
    ("auraflow", "", {"double_layers.0.attn.w1q.weight": (1, 1)}),
    ("hunyuan_image", "", HUNYUAN | {"img_in.proj.weight": (3072, 64, 1, 1)}),
    ("hunyuan_video", "text to video", HUNYUAN | {"img_in.proj.weight": (3072, 16, 1, 2, 2)}),
    ("hunyuan_video", "image to video (33 channels)", HUNYUAN | {"img_in.proj.weight": (3072, 33, 1, 2, 2)}),
    (
        "hunyuan_video_15",
        "image to video (65 channels)",
        HUNYUAN | {"img_in.proj.weight": (2048, 65, 1, 1, 1), "vision_in.proj.0.weight": (1152,)},
    ),
    ("flux3", "base", {"early_stream_modulations.image.lin.weight": (1, 1)}),
    (
        "flux3",
        "distilled (flow map)",
        {"early_stream_modulations.image.lin.weight": (1, 1), "ref_time_in.in_layer.weight": (1, 1)},
    ),
    ("flux2", "dev", FLUX2 | {"img_in.weight": (6144, 128), "guidance_in.in_layer.weight": (6144, 256)}),
    ("flux2", "klein 4B", FLUX2 | {"img_in.weight": (3072, 128)}),
    ("flux2", "klein 9B", FLUX2 | {"img_in.weight": (4096, 128)}),
    ("chroma", "", FLUX | {"distilled_guidance_layer.in_proj.weight": (5120, 64)}),
    (
        "chroma",
        "Radiance (pixels)",
        FLUX | {"distilled_guidance_layer.in_proj.weight": (1, 64), "nerf_blocks.0.x": (1,)},
    ),
    ("ovis", "", FLUX | {"double_blocks.0.img_mlp.gate_proj.weight": (1, 1)}),
    ("longcat", "", {NORM: (128,), "txt_in.weight": (3072, 3584), "img_in.weight": (3072, 64)}),
    ("flux", "schnell", FLUX),
    ("flux", "dev", FLUX | {"guidance_in.in_layer.weight": (3072, 256)}),
    ("flux", "dev, Fill", FLUX | {"guidance_in.in_layer.weight": (3072, 256), "img_in.weight": (3072, 384)}),
    ("flux", "dev, Canny or Depth", FLUX | {"guidance_in.in_layer.weight": (3072, 256), "img_in.weight": (3072, 128)}),
    ("mochi", "", {"t5_yproj.weight": (1, 1)}),
    ("minimax_h3", "", {"video_patch_proj.weight": (1, 1), "audio_patch_proj.weight": (1, 1)}),
    ("pixart", "", {"adaln_single.emb.timestep_embedder.linear_1.bias": (1,), "pos_embed.proj.bias": (1,)}),
    ("ltx", "", {"adaln_single.emb.timestep_embedder.linear_1.bias": (1,)}),
    (
        "ltx2",
        "",
        {"adaln_single.emb.timestep_embedder.linear_1.bias": (1,), "audio_adaln_single.linear.weight": (1, 1)},
    ),
    ("lumina2", "", LUMINA | {"cap_embedder.1.weight": (2304, 2304)}),
    ("lumina2", "NewBie", LUMINA | {"cap_embedder.1.weight": (2304, 2560), "clip_text_pooled_proj.0.weight": (1,)}),
    ("z_image", "", LUMINA | {"cap_embedder.1.weight": (3840, 2560), "cap_pad_token": (1, 3840)}),
    ("z_image", "Omni", LUMINA | {"cap_embedder.1.weight": (3840, 2560), "siglip_embedder.0.weight": (1152,)}),
    ("wan", "text to video, 14B", {"head.modulation": (1, 2, 5120), "patch_embedding.weight": (5120, 16, 1, 2, 2)}),
    (
        "wan",
        "image to video, 14B, with CLIP vision",
        {
            "head.modulation": (1, 2, 5120),
            "patch_embedding.weight": (5120, 36, 1, 2, 2),
            "img_emb.proj.0.bias": (1280,),
        },
    ),
    (
        "wan",
        "2.2 5B",
        {
            "head.modulation": (1, 2, 3072),
            "patch_embedding.weight": (3072, 48, 1, 2, 2),
            "head.head.weight": (192, 3072),
        },
    ),
    (
        "wan",
        "text to video, 1.3B, VACE",
        {
            "head.modulation": (1, 2, 1536),
            "patch_embedding.weight": (1536, 16, 1, 2, 2),
            "vace_patch_embedding.weight": (1536, 96),
        },
    ),
    ("hidream", "", {"double_stream_blocks.0.block.adaLN_modulation.1.bias": (1,)}),
    ("anima", "", {"blocks.0.adaln_modulation_self_attn.1.weight": (1, 1), "llm_adapter.x": (1,)}),
    ("cosmos", "", {"blocks.0.adaln_modulation_self_attn.1.weight": (1, 1)}),
    (
        "lens",
        "",
        {"transformer_blocks.0.attn.norm_added_q.weight": (1,), "transformer_blocks.0.img_mlp.w1.weight": (1, 1)},
    ),
    ("qwen_image_21", "", {"txt_in.text_norm.weight": (4096,)}),
    ("mage_flow", "", {"txt_norm.weight": (2560,)}),
    ("qwen_image", "", {"txt_norm.weight": (3584,)}),
    ("qwen_image", "Edit 2511", {"txt_norm.weight": (3584,), "__index_timestep_zero__": ()}),
    ("qwen_image", "Layered", {"txt_norm.weight": (3584,), "time_text_embed.addition_t_embedding.weight": (2, 3072)}),
    ("ideogram4", "", {"embed_image_indicator.weight": (1, 1)}),
    ("krea2", "", {"txtfusion.projector.weight": (1, 12)}),
    (
        "kandinsky5",
        "image lite",
        {
            "visual_transformer_blocks.0.cross_attention.key_norm.weight": (64,),
            "visual_embeddings.in_layer.weight": (2560, 64),
        },
    ),
    ("ernie_image", "", {"layers.0.mlp.linear_fc2.weight": (1, 1)}),
    (
        "joyimage",
        "",
        {"double_blocks.0.attn.img_attn_qkv.weight": (1, 1), "double_blocks.0.attn.img_attn_q_norm.weight": (1,)},
    ),
    ("fibo2", "", {"perceiver.latent_queries": (512, 3584), "noise_refiner.0.attention.to_q.weight": (3584, 3584)}),
    ("seedvr2", "", {"positive_conditioning": (1, 1)}),
    ("svd", "", unet(1024, 8, prefix="") | {"input_blocks.1.1.time_stack.0.norm_in.weight": (320,)}),
    ("sdxl", "Playground 2.5", unet(2048, label=2816, prefix="") | {"edm_mean": (4,), "edm_std": (4,)}),
    ("sdxl", "v-prediction, zero terminal SNR", unet(2048, label=2816, prefix="") | {"v_pred": (), "ztsnr": ()}),
    ("sd2", "Lotus", unet(1024, label=4, prefix="")),
    (
        "sd1",
        "",
        {
            "conv_in.weight": (320, 4, 3, 3),
            "down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3),
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        },
    ),
    (
        "sdxl",
        "inpainting",
        {
            "conv_in.weight": (320, 9, 3, 3),
            "down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3),
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
        },
    ),
    (
        "flux",
        "dev",
        {
            "transformer_blocks.0.attn.add_q_proj.weight": (3072, 3072),
            "single_transformer_blocks.0.proj_mlp.weight": (1, 1),
            "time_text_embed.guidance_embedder.linear_1.weight": (1, 1),
        },
    ),
    (
        "sd3",
        "3 medium",
        {"transformer_blocks.0.attn.add_q_proj.weight": (1536, 1536), "pos_embed.proj.weight": (1536, 16, 2, 2)},
    ),
]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize(("family", "variant", "tensors"), DENOISERS)
def test_a_denoiser_is_known_by_names_and_shapes(seen, family, variant, tensors, prefix):
    more = {f"padding.{n}": (1,) for n in range(6)}  # a prefix counts where more than five names have it
    found = seen(put(prefix, tensors | more))
    assert (found.kind, found.family, found.variant) == ("diffusion model", family, variant)
    assert found.part("denoiser").prefix == prefix and found.title


@pytest.mark.parametrize(("family", "variant", "tensors"), DENOISERS)
def test_a_denoiser_that_does_not_run_is_a_problem_that_names_it(tmp_path, family, variant, tensors):
    if family in {one.name for one in FAMILIES}:
        pytest.skip("it runs")
    file = sparse.write(tmp_path / "diffusion_models" / "model.safetensors", tensors, None, "BF16")
    found = identify(read_header(file))
    assert found.title and not found.supported
    (problem,) = check_model_file(gf.Settings(models=(tmp_path,)), "diffusion_models", file.name, "diffusion model")
    assert problem.code == "unknown_model" and found.title in problem.message and "does not run yet" in problem.message


QKN = {"model.layers.0.self_attn.q_norm.weight": (128,)}


def llm(width, layers=1, **more):
    return (
        blocks("model.layers.{}.", layers, post_attention_layernorm__weight=(width,), self_attn__k_proj__weight=(1, 1))
        | more
    )


ENCODERS = [
    ("CLIP-G", "", {"text_model.encoder.layers.30.mlp.fc1.weight": (5120, 1280)}),
    ("CLIP-H", "", {"text_model.encoder.layers.22.mlp.fc1.weight": (4096, 1024)}),
    ("CLIP-L", "", CLIP_L),
    ("CLIP-H", "open_clip", CLIP_H),
    (
        "T5-XXL",
        "",
        {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096), "shared.weight": (32128, 4096)},
    ),
    (
        "UMT5-XXL",
        "",
        {
            "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": (32, 64),
            "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096),
            "shared.weight": (256384, 4096),
        },
    ),
    ("T5-XL", "", {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (5120, 2048)}),
    ("ByT5-small glyph", "", {"encoder.block.0.layer.0.SelfAttention.k.weight": (384, 1472)}),
    ("T5-base", "", {"encoder.block.0.layer.0.SelfAttention.k.weight": (768, 768)}),
    ("Gemma 2 2B", "", llm(2304) | {"model.layers.0.post_feedforward_layernorm.weight": (2304,)}),
    (
        "Gemma 3 4B",
        "",
        llm(2560, 6)
        | QKN
        | {"model.layers.0.post_feedforward_layernorm.weight": (1,), "model.layers.5.self_attn.v_proj.weight": (1, 1)},
    ),
    (
        "Gemma 3 12B",
        "",
        llm(3840, 48)
        | QKN
        | {"model.layers.0.post_feedforward_layernorm.weight": (1,), "model.layers.5.self_attn.v_proj.weight": (1, 1)},
    ),
    ("Qwen2.5 3B", "", llm(2048) | {"model.layers.0.self_attn.k_proj.bias": (256,)}),
    (
        "Qwen2.5-VL 7B",
        "",
        llm(3584) | {"model.layers.0.self_attn.k_proj.bias": (512,), "visual.blocks.0.norm1.weight": (1,)},
    ),
    (
        "Qwen3.5",
        "9B",
        {
            "model.language_model.layers.0.linear_attn.A_log": (1,),
            "model.language_model.layers.3.self_attn.x": (1,),
            "model.language_model.layers.0.self_attn.x": (1,),
            "model.language_model.layers.0.post_attention_layernorm.weight": (4096,),
        },
    ),
    (
        "Qwen3-VL 4B",
        "",
        llm(2560)
        | QKN
        | {
            "model.visual.deepstack_merger_list.0.norm.weight": (1,),
            "model.visual.merger.linear_fc2.weight": (2560, 1),
        },
    ),
    (
        "Qwen3-VL 8B",
        "",
        llm(4096)
        | QKN
        | {
            "model.visual.deepstack_merger_list.0.norm.weight": (1,),
            "model.visual.merger.linear_fc2.weight": (4096, 1),
        },
    ),
    ("Qwen3", "4B", llm(2560) | QKN),
    ("Qwen3", "0.6B", llm(1024) | QKN),
    ("Mistral 3 24B", "", llm(5120, 40)),
    ("Mistral 3 24B", "cut to 30 layers", llm(5120, 30)),
    ("Ministral 3 3B", "", llm(3072)),
    ("Llama 3.1 8B", "", llm(4096)),
    ("GPT-OSS 20B", "", {"layers.0.self_attn.sinks": (1,)}),
]


@pytest.mark.parametrize(("title", "variant", "tensors"), ENCODERS)
def test_a_text_encoder_is_known(seen, title, variant, tensors):
    found = seen(tensors)
    assert (found.kind, found.title, found.variant, found.folder) == ("text encoder", title, variant, "text_encoders")


VAES = [
    (
        "AutoencoderKL",
        "Stable Diffusion, SDXL",
        {"decoder.conv_in.weight": (512, 4, 3, 3), "decoder.mid.block_1.norm1.weight": (1,)},
    ),
    (
        "AutoencoderKL",
        "FLUX.1, Stable Diffusion 3, Z-Image",
        {"decoder.conv_in.weight": (512, 16, 3, 3), "decoder.mid.block_1.norm1.weight": (1,)},
    ),
    (
        "AutoencoderKL",
        "FLUX.2",
        {"decoder.conv_in.weight": (512, 32, 3, 3), "decoder.up_blocks.0.resnets.0.norm1.weight": (1,)},
    ),
    (
        "Wan VAE",
        "Wan 2.1, Qwen-Image",
        {"decoder.middle.0.residual.0.gamma": (1,), "decoder.conv1.weight": (384, 16, 3, 3, 3)},
    ),
    ("Wan VAE", "Wan 2.2", {"decoder.middle.0.residual.0.gamma": (1,), "decoder.conv1.weight": (384, 48, 3, 3, 3)}),
    ("LTX VAE", "", {"decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": (1,)}),
    ("HunyuanVideo VAE", "1.5", {"decoder.conv_in.conv.weight": (1024, 32, 3, 3, 3)}),
]


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
@pytest.mark.parametrize(("title", "variant", "tensors"), VAES)
def test_a_vae_is_known(seen, title, variant, tensors, prefix):
    found = seen(put(prefix, tensors))
    assert (found.kind, found.title, found.variant, found.folder) == ("VAE", title, variant, "vae")


def lora(module, inputs, outputs=320, rank=8, up="lora_up.weight", down="lora_down.weight"):
    return {f"{module}.{down}": (rank, inputs), f"{module}.{up}": (outputs, rank)}


PEFT = {"up": "lora_B.weight", "down": "lora_A.weight"}
LORAS = [
    ("sd1", lora("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768)),
    (
        "sd1",
        lora(
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora",
            768,
            up="up.weight",
            down="down.weight",
        ),
    ),
    ("sd2", lora("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 1024)),
    ("sdxl", lora("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048)),
    ("sdxl", lora("lora_unet_output_blocks_0_1_transformer_blocks_7_attn1_to_q", 1280)),
    ("flux", lora("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216)),
    ("flux", lora("transformer.single_transformer_blocks.0.attn.to_q", 3072, 3072, **PEFT)),
    ("flux", lora("diffusion_model.single_blocks.0.linear1", 3072, 21504, **PEFT)),
    ("flux2", lora("diffusion_model.single_blocks.0.linear1", 3072, 27648, **PEFT)),
    ("flux2", lora("diffusion_model.double_blocks.0.img_attn.qkv", 6144, 18432, **PEFT)),
    ("hunyuan_video", lora("transformer.double_blocks.0.img_attn_qkv", 3072, 9216, **PEFT)),
    (
        "qwen_image",
        lora(
            "transformer_blocks.0.img_mlp.net.2", 12288, 3072, up="lora_B.default.weight", down="lora_A.default.weight"
        ),
    ),
    ("qwen_image", lora("lora_unet_transformer_blocks_59_attn_add_q_proj", 3072, 3072)),
    ("sd3", lora("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536)),
    ("z_image", lora("diffusion_model.layers.0.attention.qkv", 3840, 11520, **PEFT)),
    ("lumina2", lora("diffusion_model.layers.0.attention.qkv", 2304, **PEFT)),
    ("wan", lora("diffusion_model.blocks.0.self_attn.q", 5120, 5120, **PEFT)),
    ("wan", lora("lora_unet__blocks_0_cross_attn_k", 5120, 5120)),
    ("anima", lora("diffusion_model.blocks.0.self_attn.q_proj", 2048, 2048, **PEFT)),
    ("krea2", lora("base_model.model.blocks.0.attn.wq", 3072, 3072, **PEFT)),
    ("hidream", lora("transformer.double_stream_blocks.0.block.attn1.to_q", 2560, 2560, **PEFT)),
    ("ltx", lora("diffusion_model.transformer_blocks.0.attn1.to_q", 2048, 2048, **PEFT)),
    ("", lora("strange.names", 10)),
]


@pytest.mark.parametrize(("family", "tensors"), LORAS)
def test_a_lora_is_known_with_the_family_that_it_changes(seen, family, tensors):
    found = seen(tensors)
    assert (found.kind, found.family, found.folder) == ("LoRA", family, "loras")
    assert found.details["rank"] == "8" and found.details["modules"] == "1" and found.missing
    assert found.supported == any(family.name == found.family for family in FAMILIES)


RELATIVES = [
    ("LoHa", {"hada_w1_a": (320, 4), "hada_w1_b": (4, 768), "hada_w2_a": (320, 4), "hada_w2_b": (4, 768)}),
    ("LoKr", {"lokr_w1": (8, 8), "lokr_w2_a": (40, 4), "lokr_w2_b": (4, 96)}),
    ("DoRA", {"lora_up.weight": (320, 4), "lora_down.weight": (4, 768), "dora_scale": (320, 1)}),
    ("LoCon", {"lora_up.weight": (320, 4, 1, 1), "lora_down.weight": (4, 320, 3, 3)}),
    ("OFT", {"oft_blocks": (4, 80, 80)}),
    ("difference", {"diff": (320, 768), "diff_b": (320,)}),
]


RELATIVES_BY_FAMILY = [
    ("sd1", {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.oft_blocks": (4, 80, 80)}),
    ("sd1", {"lora_unet_up_blocks_3_resnets_2_conv_shortcut.dora_scale": (320, 1, 1, 1)}),
    ("sd1", {"diffusion_model.output_blocks.11.0.skip_connection.diff": (320, 640, 1, 1)}),
    ("sd2", {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.diff": (640, 1024)}),
    (
        "sdxl",
        {
            f"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.{name}.weight": shape
            for name, shape in {"a1": (4, 640), "a2": (640, 4), "b1": (4, 2048), "b2": (640, 4)}.items()
        },
    ),
]


@pytest.mark.parametrize(("family", "tensors"), RELATIVES_BY_FAMILY)
def test_a_relative_of_lora_is_known_with_the_family_that_it_changes(seen, family, tensors):
    found = seen(tensors)
    assert (found.kind, found.family, found.supported) == ("LoRA", family, True)


@pytest.mark.parametrize(("kind", "tensors"), RELATIVES)
def test_relatives_of_lora_are_known(seen, kind, tensors):
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k."
    found = seen(put(module, tensors | {"alpha": ()}))
    assert (found.kind, found.details["kind"]) == ("LoRA", kind)
    assert kind not in ("LoHa", "LoKr") or kind == "LoKr" or found.family == "sd1"


def test_the_notes_of_a_lora_name_what_wakes_it_and_who_made_it(seen):
    tags = {"10_cat": {"sks cat": 30, "sitting": 4}, "5_dog": {"dog": 12}}
    notes = {
        "ss_tag_frequency": json.dumps(tags),
        "ss_network_dim": "8",
        "ss_network_alpha": "4.0",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_output_name": "cats",
        "modelspec.license": "None",
        "ss_network_module": "networks.lora",
    }
    found = seen(
        lora("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048) | lora("lora_te1_text_model_x", 768),
        notes,
    )
    assert found.notes == {
        "title": "cats",
        "base model": "sdxl_base_v1-0",
        "alpha": "4.0",
        "most frequent tags": "sks cat, dog, sitting",
    }
    assert found.details["trainer"] == "sd-scripts (kohya)" and found.details["changes"] == "denoiser, text encoder 1"
    assert found.words == "a LoRA for Stable Diffusion XL"


OTHERS = [
    (
        "ControlNet",
        "sd1",
        "",
        {"control_model.zero_convs.0.0.weight": (320, 320, 1, 1), "control_model.x.attn2.to_k.weight": (320, 768)},
    ),
    (
        "ControlNet",
        "sdxl",
        "",
        {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "down_blocks.1.attn2.to_k.weight": (640, 2048)},
    ),
    (
        "ControlNet",
        "sdxl",
        "union of 8 types",
        {
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
            "down_blocks.1.attn2.to_k.weight": (640, 2048),
            "control_add_embedding.linear_1.bias": (1,),
            "task_embedding": (8, 320),
        },
    ),
    ("ControlNet", "flux", "XLabs", {"controlnet_blocks.0.weight": (1, 1), NORM: (128,)}),
    (
        "ControlNet",
        "flux",
        "union",
        {
            "controlnet_blocks.0.weight": (1, 1),
            "controlnet_x_embedder.weight": (1, 64),
            "controlnet_mode_embedder.weight": (10, 1),
        },
    ),
    ("ControlNet", "sd3", "", {"controlnet_blocks.0.weight": (1, 1), "pos_embed_input.proj.weight": (1, 16, 2, 2)}),
    (
        "ControlNet",
        "qwen_image",
        "InstantX, inpainting",
        {
            "controlnet_blocks.0.weight": (1, 1),
            "transformer_blocks.0.img_mlp.net.0.proj.weight": (1, 1),
            "controlnet_x_embedder.weight": (1, 68),
        },
    ),
    (
        "Control-LoRA",
        "sdxl",
        "",
        {"lora_controlnet": (), "input_blocks.1.0.up": (1, 1), "input_blocks.1.0.down": (1, 1)},
    ),
    ("T2I-Adapter", "", "", {"body.0.in_conv.weight": (1, 1, 1, 1)}),
    ("model patch", "z_image", "Fun ControlNet", {"control_all_x_embedder.2-1.weight": (1, 1)}),
    ("model patch", "qwen_image", "DiffSynth control", {"controlnet_blocks.0.y_rms.weight": (1,)}),
    ("model patch", "anima", "ControlNet-LLLite", {"lllite_conditioning1.conv1.weight": (1,)}),
    ("IP-Adapter", "", "Plus", {"image_proj.latents": (1, 16, 768), "ip_adapter.1.to_k_ip.weight": (320, 768)}),
    ("IP-Adapter", "", "FaceID", {"image_proj.proj.0.weight": (1, 1), "ip_adapter.1.to_q_lora.down.weight": (1, 1)}),
    ("style model", "flux", "Redux", {"redux_up.weight": (12288, 1152), "redux_down.weight": (4096, 12288)}),
    ("image encoder", "CLIP ViT-H", "224 pixels", {"vision_model.encoder.layers.30.mlp.fc1.weight": (1, 1)}),
    (
        "image encoder",
        "CLIP ViT-L",
        "336 pixels",
        {
            "vision_model.encoder.layers.22.mlp.fc1.weight": (1, 1),
            "vision_model.embeddings.position_embedding.weight": (577, 1024),
        },
    ),
    (
        "image encoder",
        "CLIP image encoder",
        "3 layers",
        {f"vision_model.encoder.layers.{n}.mlp.fc1.weight": (1, 1) for n in range(3)}
        | {"vision_model.embeddings.class_embedding": (64,)},
    ),
    (
        "image encoder",
        "SigLIP so400m",
        "384 pixels",
        {
            "vision_model.encoder.layers.26.mlp.fc1.weight": (1, 1),
            "vision_model.embeddings.patch_embedding.bias": (1,),
            "vision_model.embeddings.position_embedding.weight": (729, 1152),
        },
    ),
    (
        "upscale model",
        "ESRGAN",
        "4x",
        {f"model.{n}.weight": (64, 64, 3, 3) for n in (0, 3, 6, 8, 10)}
        | {"model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
    ),
    (
        "upscale model",
        "ESRGAN",
        "2x",
        {f"model.{n}.weight": (64, 64, 3, 3) for n in (0, 3, 5, 7)}
        | {"model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)},
    ),
    (
        "upscale model",
        "ESRGAN",
        "2x",
        {"conv_first.weight": (64, 12, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
    ),
    (
        "upscale model",
        "Real-ESRGAN compact",
        "4x",
        {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.34.weight": (48, 64, 3, 3)},
    ),
    ("embedding", "sd1", "", {"emb_params": (4, 768)}),
    ("embedding", "sdxl", "", {"clip_l": (2, 768), "clip_g": (2, 1280)}),
    ("conditioning", "", "", {"conditioning": (1, 77, 768)}),
    ("VAE approximation", "TAESD", "decoder alone", {"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}),
    ("unknown", "", "", {"x.weight": (3, 3), "y": (2,)}),
]


@pytest.mark.parametrize(("kind", "family", "variant", "tensors"), OTHERS)
def test_adapters_upscalers_and_embeddings_are_known(seen, kind, family, variant, tensors):
    found = seen(tensors)
    assert (found.kind, found.family, found.variant) == (kind, family, variant)
    assert (found.folder == "") == (kind == "unknown")


def note(**values):
    text = json.dumps(values).encode()
    return "U8", (len(text),), text


def test_quantised_layers_are_named_by_their_layout_and_counted_as_parameters(seen):
    base = {f"double_stream_blocks.{n}.block.adaLN_modulation.1.bias": (4,) for n in range(6)}
    linear = "double_stream_blocks.0.block.q"
    scale = ("F32", ())
    plain = seen(base).parameters
    fp8 = seen(
        base
        | {
            f"{linear}.weight": ("F8_E4M3", (256, 512)),
            f"{linear}.scale_weight": scale,
            "scaled_fp8": ("F8_E4M3", (0,)),
        }
    )
    assert fp8.number_format == "fp8 (1 layers)" and fp8.parameters == plain + 256 * 512
    nvfp4 = seen(
        base
        | {
            f"{linear}.weight": ("U8", (256, 256)),
            f"{linear}.weight_scale": ("F8_E4M3", (256, 32)),
            f"{linear}.weight_scale_2": scale,
            f"{linear}.comfy_quant": note(format="nvfp4"),
        }
    )
    assert nvfp4.number_format.startswith("nvfp4 (1 layers)") and nvfp4.parameters == plain + 256 * 512
    stated = {
        "_quantization_metadata": json.dumps(
            {"layers": {linear: {"format": "int8_tensorwise", "params": {"convrot": True}}}}
        )
    }
    int8 = seen(base | {f"{linear}.weight": ("I8", (256, 512)), f"{linear}.weight_scale": ("F32", (256, 1))}, stated)
    assert int8.number_format.startswith("int8_tensorwise rotated (1 layers)") and int8.parameters == plain + 256 * 512


def test_a_diffusers_folder_is_known_by_the_classes_of_its_parts():
    found = identify(read_header(BUILTIN / "graphflow-tiny"))
    assert (found.kind, found.family, found.folder, found.missing) == ("pipeline", "sd1", "diffusers", ())
    assert [part.name for part in found.parts] == ["denoiser", "vae", "text encoder"] and found.supported


def test_a_transformer_folder_of_a_new_family_is_recognised_and_not_supported(tmp_path):
    (tmp_path / "flux" / "transformer").mkdir(parents=True)
    (tmp_path / "flux" / "model_index.json").write_text(
        json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]})
    )
    (tmp_path / "flux" / "transformer" / "config.json").write_text(
        json.dumps({"_class_name": "FluxTransformer2DModel"})
    )
    sparse.write(tmp_path / "flux" / "transformer" / "diffusion_pytorch_model.safetensors", FLUX)
    found = identify(read_header(tmp_path / "flux"))
    assert (found.kind, found.family, found.supported) == ("pipeline", "flux", False)
    assert found.missing == ("text encoders: CLIP-L and T5-XXL", "VAE: the FLUX.1 VAE (ae, 16 channels)")


def test_pickles_are_known_like_safetensors(tmp_path):
    torch.save({"string_to_param": {"*": torch.zeros(3, 1024)}, "name": "cat", "step": 500}, tmp_path / "cat.pt")
    found = identify(read_header(tmp_path / "cat.pt"))
    assert (found.kind, found.family, found.details["vectors"]) == ("embedding", "sd2", "3")
    assert found.notes["title"] == "cat"


POOL = sorted(
    {
        name
        for tensors in (
            *(row[2] for row in (*DENOISERS, *ENCODERS, *VAES)),
            *(row[1] for row in LORAS),
            *(row[3] for row in OTHERS),
        )
        for name in tensors
    }
    | {"body.x.weight", "model..weight", "lora_unet_.lora_up.weight", "text_encoders.a", "text_encoders.", "alpha"}
)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.dictionaries(
        st.tuples(st.sampled_from(["", "model.diffusion_model.", "vae.", "model."]), st.sampled_from(POOL)).map(
            "".join
        ),
        st.lists(st.sampled_from([0, 1, 3, 4, 9, 768, 1024, 2048]), max_size=5).map(tuple),
        max_size=12,
    ),
    metadata=st.dictionaries(
        st.sampled_from(["ss_tag_frequency", "ss_dataset_dirs", "modelspec.title", "trainedWords", "software"]),
        st.sampled_from(["", "{", "[]", "[1, null]", '{"a": {"b": 1}}', '{"a": [1]}', "None", "words"]),
    ),
)
def test_names_and_shapes_that_no_model_has_are_no_trouble(seen, tensors, metadata):
    found = seen({name: shape for name, shape in tensors.items() if math.prod(shape) < 10**9}, metadata)
    assert found.words and json.dumps(found.to_json())
