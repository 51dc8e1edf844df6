"""Small models of the families of 2026 and what they share, in the key layouts of real files.

Names of original layouts are made here by replacing words, apart from the tables that read them.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AnimaTextConditioner,
    AutoencoderKLQwenImage21,
    BriaFibo2Transformer2DModel,
    CosmosTransformer3DModel,
    ErnieImageTransformer2DModel,
    JoyImageEditTransformer3DModel,
    Krea2Transformer2DModel,
    LongCatImageTransformer2DModel,
    OvisImageTransformer2DModel,
    QwenImage21Transformer2DModel,
)
from graphflow_nodes.families.kits import qwen3_vl_network
from graphflow_nodes.families.kits.language_model import YARN
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny, tiny_flow, tiny_flux2, tiny_language, tiny_qwen, tiny_transformers

WIDTH = 32
"""Of the text of Qwen3-VL."""
QWEN3_VL = {
    "text": {
        "vocab_size": 151936,
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 36,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
    },
    "vision": {
        "depth": 4,
        "hidden_size": 64,
        "in_channels": 3,
        "temporal_patch_size": 2,
        "patch_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 16,
        "num_heads": 16,
        "spatial_merge_size": 2,
        "deepstack_visual_indexes": [0, 1, 2],
    },
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}


def half(module, prefix=""):
    return {prefix + name: weight.half().contiguous() for name, weight in module.state_dict().items()}


def renamed(weights, words, prefix=""):
    """The same with words of names replaced, in order; a word may be a compiled pattern."""
    found = {}
    for name, weight in weights.items():
        for word, other in words:
            name = word.sub(other, name) if isinstance(word, re.Pattern) else name.replace(word, other)
        found[prefix + name] = weight
    return found


def qwen3_vl():
    return tiny.filled(qwen3_vl_network.build(Config(QWEN3_VL)), "qwen3vl")


def qwen3_vl_file(prefix=""):
    return half(qwen3_vl(), f"{prefix}model.")


def save_qwen3_vl(place):
    """The text encoder and the tokenizer of a diffusers folder."""
    (place / "text_encoder").mkdir(parents=True)
    save_file(qwen3_vl_file(), place / "text_encoder" / "model.safetensors")
    vision = {name: QWEN3_VL["vision"][name] for name in ("num_heads", "deepstack_visual_indexes")}
    stated = {
        "model_type": "qwen3_vl",
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "text_config": {"rope_parameters": QWEN3_VL["text"]["rope_parameters"]},
        "vision_config": vision,
        "image_token_id": 151655,
    }
    (place / "text_encoder" / "config.json").write_text(json.dumps(stated))
    save_qwen_tokenizer(place)


def save_qwen_tokenizer(place):
    (place / "tokenizer").mkdir()
    qwen_tokenizer().save(str(place / "tokenizer" / "tokenizer.json"))


def save_index(place, pipeline, **parts):
    index = {name: ["diffusers", kind] for name, kind in parts.items()}
    (place / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **index}))
    return place


def qwen_image_21():
    module = QwenImage21Transformer2DModel(
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        context_in_dim=WIDTH,
        axes_dims_rope=(4, 14, 14),
    )
    return tiny.filled(module, "qwen_image_21")


def qwen_image_21_file(prefix=""):
    weights = half(qwen_image_21())
    found = {}
    for name, weight in weights.items():
        if name.endswith("img_mlp.gate_layer.weight"):
            found[name.replace("gate_layer", "gate_up")] = torch.cat(
                [weight, weights[name.replace("gate_layer", "proj")]]
            )
        elif not name.endswith("img_mlp.proj.weight"):
            found[name] = weight
    return {prefix + name: weight for name, weight in found.items()}


def qwen21_vae():
    module = AutoencoderKLQwenImage21(base_dim=8, decoder_base_dim=8, dim_mult=[1, 1, 2, 2, 2], num_res_blocks=1)
    return tiny.filled(module, "qwen21_vae")


WAN_22 = (
    (re.compile(r"^quant_conv"), "conv1"),
    (re.compile(r"^post_quant_conv"), "conv2"),
    (re.compile(r"down_blocks\.(\d)\.resnets"), r"downsamples.\1.downsamples"),
    (re.compile(r"up_blocks\.(\d)\.resnets"), r"upsamples.\1.upsamples"),
    (re.compile(r"down_blocks\.(\d)\.downsampler"), r"downsamples.\1.downsamples.1"),
    (re.compile(r"up_blocks\.(\d)\.upsampler"), r"upsamples.\1.upsamples.2"),
    (".norm1.", ".residual.0."),
    (".conv1.", ".residual.2."),
    (".norm2.", ".residual.3."),
    (".conv2.", ".residual.6."),
    (".conv_shortcut.", ".shortcut."),
    (".conv_in.", ".conv1."),
    (".norm_out.", ".head.0."),
    (".conv_out.", ".head.2."),
    (".mid_block.resnets.0.", ".middle.0."),
    (".mid_block.attentions.0.", ".middle.1."),
    (".mid_block.resnets.1.", ".middle.2."),
)
"""Words of Wan 2.2's VAE, with one block a level in the encoder and two in the decoder."""


def qwen21_vae_file(prefix=""):
    return renamed(half(qwen21_vae()), WAN_22, prefix)


def qwen_image_21_folder(place):
    qwen_image_21().half().save_pretrained(place / "transformer")
    qwen21_vae().half().save_pretrained(place / "vae")
    save_qwen3_vl(place)
    return save_index(place, "QwenImage21Pipeline", transformer="QwenImage21Transformer2DModel")


def qwen_image_21_checkpoint():
    return {
        **qwen_image_21_file("model.diffusion_model."),
        **qwen3_vl_file("text_encoders.qwen3vl_8b.transformer."),
        **qwen21_vae_file("vae."),
    }


def krea2():
    module = Krea2Transformer2DModel(
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=32,
        text_hidden_dim=WIDTH,
        num_text_layers=12,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=32,
        axes_dims_rope=(8, 12, 12),
    )
    return tiny.filled(module, "krea2")


KREA2_WORDS = (
    (re.compile("^img_in"), "first"),
    (re.compile("^time_embed.linear_1"), "tmlp.0"),
    (re.compile("^time_embed.linear_2"), "tmlp.2"),
    (re.compile("^time_mod_proj"), "tproj.1"),
    (re.compile("^txt_in.norm.weight"), "txtmlp.0.scale"),
    (re.compile("^txt_in.linear_1"), "txtmlp.1"),
    (re.compile("^txt_in.linear_2"), "txtmlp.3"),
    (re.compile("^text_fusion"), "txtfusion"),
    (re.compile("^transformer_blocks"), "blocks"),
    (re.compile("^final_layer.linear"), "last.linear"),
    (re.compile("^final_layer.norm.weight"), "last.norm.scale"),
    (re.compile("^final_layer.scale_shift_table"), "last.modulation.lin"),
    (".to_q.", ".wq."),
    (".to_k.", ".wk."),
    (".to_v.", ".wv."),
    (".to_out.0.", ".wo."),
    (".to_gate.", ".gate."),
    (".norm_q.weight", ".qknorm.qnorm.scale"),
    (".norm_k.weight", ".qknorm.knorm.scale"),
    (".ff.", ".mlp."),
    (".norm1.weight", ".prenorm.scale"),
    (".norm2.weight", ".postnorm.scale"),
    (".scale_shift_table", ".mod.lin"),
)


def krea2_file(prefix=""):
    found = renamed(half(krea2()), KREA2_WORDS, prefix)
    return {name: weight.flatten() if name.endswith(".mod.lin") else weight for name, weight in found.items()}


def krea2_folder(place):
    krea2().half().save_pretrained(place / "transformer")
    tiny_qwen.vae().half().save_pretrained(place / "vae")
    save_qwen3_vl(place)
    return save_index(place, "Krea2Pipeline", transformer="Krea2Transformer2DModel")


def krea2_checkpoint():
    return {
        **krea2_file("model.diffusion_model."),
        **qwen3_vl_file("text_encoders.qwen3vl_4b.transformer."),
        **tiny_qwen.vae_file(prefix="vae."),
    }


def anima():
    """(conditioner, transformer)"""
    conditioner = AnimaTextConditioner(
        source_dim=32,
        target_dim=32,
        model_dim=32,
        num_layers=1,
        num_attention_heads=2,
        target_vocab_size=len(tiny_transformers.VOCABULARY),
    )
    transformer = CosmosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=32,
        num_layers=2,
        text_embed_dim=32,
        adaln_lora_dim=8,
        extra_pos_embed_type=None,
        rope_scale=(1.0, 4.0, 4.0),
    )
    return tiny.filled(conditioner, "anima.text"), tiny.filled(transformer, "anima")


COSMOS_WORDS = (
    ("time_embed.t_embedder", "t_embedder.1"),
    ("time_embed.norm", "t_embedding_norm"),
    ("norm_out.linear_", "final_layer.adaln_modulation."),
    ("proj_out", "final_layer.linear"),
    ("patch_embed.proj", "x_embedder.proj.1"),
    ("norm1.linear_", "adaln_modulation_self_attn."),
    ("norm2.linear_", "adaln_modulation_cross_attn."),
    ("norm3.linear_", "adaln_modulation_mlp."),
    ("ff.net.0.proj", "mlp.layer1"),
    ("ff.net.2", "mlp.layer2"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    ("to_q", "q_proj"),
    ("to_k", "k_proj"),
    ("to_v", "v_proj"),
    ("to_out.0", "output_proj"),
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
    ("transformer_blocks", "blocks"),
)


def anima_file(prefix="net."):
    conditioner, transformer = anima()
    return {
        **renamed(half(transformer), COSMOS_WORDS, prefix),
        **half(conditioner, f"{prefix}llm_adapter."),
        f"{prefix}pos_embedder.seq": torch.arange(4),
    }


def qwen3_06b_file(prefix="model."):
    return tiny_language.text_file("qwen3_06b", prefix)


def t5_vocabulary(place):
    """Writes T5's tokenizer into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(tiny_transformers.save_vocabulary(Path(folder)), place, dirs_exist_ok=True)


def anima_folder(place):
    conditioner, transformer = anima()
    conditioner.half().save_pretrained(place / "text_conditioner")
    transformer.half().save_pretrained(place / "transformer")
    tiny_qwen.vae().half().save_pretrained(place / "vae")
    (place / "text_encoder").mkdir()
    save_file(qwen3_06b_file(), place / "text_encoder" / "model.safetensors")
    (place / "text_encoder" / "config.json").write_text(json.dumps({"model_type": "qwen3", "rope_theta": 1e6}))
    save_qwen_tokenizer(place)
    t5_vocabulary(place / "t5_tokenizer")
    return save_index(place, "AnimaPipeline", transformer="CosmosTransformer3DModel")


def anima_checkpoint():
    return {
        **anima_file("model.diffusion_model."),
        **qwen3_06b_file("text_encoders.qwen3_06b.transformer.model."),
        **tiny_qwen.vae_file(prefix="vae."),
    }


def ernie_image():
    module = ErnieImageTransformer2DModel(
        hidden_size=64,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=64,
        text_in_dim=tiny_language.SIZES["ministral3"]["hidden_size"],
        rope_axes_dim=(8, 12, 12),
    )
    return tiny.filled(module, "ernie_image")


def ernie_image_file(prefix=""):
    return half(ernie_image(), prefix)


def ministral_file(prefix="model."):
    return tiny_language.text_file("ministral3", prefix)


def ernie_image_folder(place):
    ernie_image().half().save_pretrained(place / "transformer")
    tiny_flux2.save_vae(place / "vae")
    save_text(place, ministral_file(), {"model_type": "ministral3", "rope_parameters": dict(YARN)})
    (place / "tokenizer").mkdir()
    (place / "tokenizer" / "tekken.json").write_bytes(tiny_language.tekken())
    return save_index(place, "ErnieImagePipeline", transformer="ErnieImageTransformer2DModel")


def ernie_image_checkpoint():
    return {
        **ernie_image_file("model.diffusion_model."),
        **prefixed("text_encoders.ministral3_3b.transformer.", ministral_file()),
        **prefixed("vae.", tiny_flux2.vae_file()),
    }


def save_text(place, weights, stated, name="text_encoder"):
    (place / name).mkdir()
    kept = {key: weight for key, weight in weights.items() if not key.endswith("_model")}
    save_file(kept, place / name / "model.safetensors")
    (place / name / "config.json").write_text(json.dumps(stated))


FLUX_BLOCKS = {
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "axes_dims_rope": (4, 14, 14),
}
FLUX_WORDS = (
    ("single_transformer_blocks", "single_blocks"),
    ("transformer_blocks", "double_blocks"),
    ("x_embedder", "img_in"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("norm1.linear", "img_mod.lin"),
    (".norm.linear", ".modulation.lin"),
    (re.compile(r"(double.*)attn.norm_added_q.weight"), r"\1txt_attn.norm.query_norm.{}"),
    (re.compile(r"(double.*)attn.norm_added_k.weight"), r"\1txt_attn.norm.key_norm.{}"),
    (re.compile(r"(double.*)attn.norm_q.weight"), r"\1img_attn.norm.query_norm.{}"),
    (re.compile(r"(double.*)attn.norm_k.weight"), r"\1img_attn.norm.key_norm.{}"),
    (re.compile(r"(single.*)attn.norm_q.weight"), r"\1norm.query_norm.{}"),
    (re.compile(r"(single.*)attn.norm_k.weight"), r"\1norm.key_norm.{}"),
    (re.compile(r"(single.*)proj_out"), r"\1linear2"),
    (re.compile(r"^proj_out"), "final_layer.linear"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    (re.compile(r".*timestep_embedder.linear_1"), "time_in.in_layer"),
    (re.compile(r".*timestep_embedder.linear_2"), "time_in.out_layer"),
)


def flux_blocks(module, norm, words, prefix=""):
    """In the original layout of FLUX's blocks: q, k and v are one tensor, shift stands before scale at the end."""
    weights, fused = half(module), {}
    for name in list(weights):
        for first, others, whole in (
            ("attn.add_q_proj.", ("attn.add_k_proj.", "attn.add_v_proj."), "txt_attn.qkv."),
            ("attn.to_q.", ("attn.to_k.", "attn.to_v."), "img_attn.qkv."),
        ):
            if first not in name:
                continue
            parts = [name, *(name.replace(first, other) for other in others)]
            if name.startswith("single"):
                parts.append(name.replace("attn.to_q.", "proj_mlp."))
                whole = "linear1."
            fused[name.replace(first, whole)] = torch.cat([weights.pop(part) for part in parts])
    found = renamed({**weights, **fused}, (*FLUX_WORDS, *words, ("{}", norm)), prefix)
    for kind in ("weight", "bias"):
        name = f"{prefix}final_layer.adaLN_modulation.1.{kind}"
        found[name] = found[name].roll(len(found[name]) // 2, dims=0)
    return found


def longcat():
    return tiny.filled(LongCatImageTransformer2DModel(**FLUX_BLOCKS), "longcat")


def longcat_file(prefix="", norm="scale"):
    return flux_blocks(longcat(), norm, [("context_embedder", "txt_in")], prefix)


def ovis():
    return tiny.filled(OvisImageTransformer2DModel(**FLUX_BLOCKS), "ovis")


def ovis_file(prefix="", norm="weight"):
    words = [("context_embedder_norm", "semantic_txt_norm"), ("context_embedder", "semantic_txt_in")]
    found = {}
    for name, weight in flux_blocks(ovis(), norm, words, prefix).items():
        if "_mlp.0." in name:
            up, gate = weight.chunk(2)
            found |= {name.replace("_mlp.0.", "_mlp.up_proj."): up, name.replace("_mlp.0.", "_mlp.gate_proj."): gate}
        else:
            found[name.replace("_mlp.2.", "_mlp.down_proj.")] = weight
    return found


def ovis_folder(place):
    ovis().half().save_pretrained(place / "transformer")
    tiny_flow.save_vae(place / "vae")
    save_text(place, tiny_flow.qwen3_file(), {"model_type": "qwen3"})
    save_qwen_tokenizer(place)
    return save_index(place, "OvisImagePipeline", transformer="OvisImageTransformer2DModel")


def ovis_checkpoint():
    return {
        **ovis_file("model.diffusion_model."),
        **prefixed("text_encoders.qwen3_2b.transformer.", tiny_flow.qwen3_file()),
        **prefixed("vae.", tiny_flow.vae_file()),
    }


def longcat_folder(place):
    longcat().half().save_pretrained(place / "transformer")
    tiny_flow.save_vae(place / "vae")
    tiny_qwen.save_text(place)
    return save_index(place, "LongCatImagePipeline", transformer="LongCatImageTransformer2DModel")


def longcat_checkpoint():
    return {
        **longcat_file("model.diffusion_model."),
        **tiny_qwen.text_file("text_encoders.qwen25_7b.transformer."),
        **prefixed("vae.", tiny_flow.vae_file()),
    }


def joyimage():
    module = JoyImageEditTransformer3DModel(
        hidden_size=64, num_attention_heads=2, text_dim=WIDTH, num_layers=2, rope_dim_list=[4, 14, 14]
    )
    return tiny.filled(module, "joyimage")


def joyimage_file(prefix=""):
    return half(joyimage(), prefix)


def joyimage_folder(place):
    joyimage().half().save_pretrained(place / "transformer")
    tiny_qwen.vae().half().save_pretrained(place / "vae")
    save_qwen3_vl(place)
    return save_index(place, "JoyImageEditPipeline", transformer="JoyImageEditTransformer3DModel")


def joyimage_checkpoint():
    return {
        **joyimage_file("model.diffusion_model."),
        **qwen3_vl_file("text_encoders.qwen3vl_8b.transformer."),
        **tiny_qwen.vae_file(prefix="vae."),
    }


def fibo2():
    module = BriaFibo2Transformer2DModel(
        dim=64,
        n_layers=6,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=3 * WIDTH,
        injection_layer_ids=(0, 1, 3, 4, 5),
        perceiver_num_layers=1,
        min_num_gist_tokens=8,
        max_num_gist_tokens=16,
        gist_step=2,
        axes_dims=(8, 12, 12),
    )
    return tiny.filled(module, "fibo2")


def fibo2_file(prefix=""):
    return half(fibo2(), prefix)


def fibo2_folder(place):
    fibo2().half().save_pretrained(place / "transformer")
    tiny_flux2.save_vae(place / "vae")
    save_qwen3_vl(place)
    return save_index(place, "BriaFibo2Pipeline", transformer="BriaFibo2Transformer2DModel")


def fibo2_checkpoint():
    return {
        **fibo2_file("model.diffusion_model."),
        **qwen3_vl_file("text_encoders.qwen3vl_4b.transformer."),
        **prefixed("vae.", tiny_flux2.vae_file()),
    }


def prefixed(prefix, weights):
    return {prefix + name: weight for name, weight in weights.items()}


FILES = {
    "fibo2_dev_int8_convrot.safetensors": ("diffusion_models", fibo2_file),
    "fibo2_edit_turbo_int8_convrot.safetensors": ("diffusion_models", fibo2_file),
    "joyai_image_edit_int8_convrot.safetensors": ("diffusion_models", joyimage_file),
    "qwen3vl_8b_joyimage_edit_int8_convrot.safetensors": ("text_encoders", qwen3_vl_file),
    "wan_2.1_vae.safetensors": ("vae", tiny_qwen.vae_file),
    "ernie-image-turbo.safetensors": ("diffusion_models", ernie_image_file),
    "ministral-3-3b.safetensors": ("text_encoders", ministral_file),
    "flux2-vae.safetensors": ("vae", tiny_flux2.vae_file),
    "ovis_image_bf16.safetensors": ("diffusion_models", ovis_file),
    "ovis_2.5.safetensors": ("text_encoders", tiny_flow.qwen3_file),
    "ae.safetensors": ("vae", tiny_flow.vae_file),
    "longcat_image_bf16.safetensors": ("diffusion_models", longcat_file),
    "longcat_image_edit_bf16.safetensors": ("diffusion_models", longcat_file),
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": ("text_encoders", tiny_qwen.text_file),
    "anima-base-v1.0.safetensors": ("diffusion_models", anima_file),
    "qwen_3_06b_base.safetensors": ("text_encoders", qwen3_06b_file),
    "krea2_turbo_fp8_scaled.safetensors": ("diffusion_models", krea2_file),
    "qwen3vl_4b_bf16.safetensors": ("text_encoders", qwen3_vl_file),
    "qwen_image_vae.safetensors": ("vae", tiny_qwen.vae_file),
    "qwen_image_2.1_bf16.safetensors": ("diffusion_models", qwen_image_21_file),
    "qwen3vl_8b_bf16.safetensors": ("text_encoders", qwen3_vl_file),
    "qwen_image_2.1_vae_bf16.safetensors": ("vae", qwen21_vae_file),
}
"""Names of files in workflows -> folder and tensors of a small one."""
FOLDERS = {
    "qwen_image_21": qwen_image_21_folder,
    "krea2": krea2_folder,
    "anima": anima_folder,
    "ernie_image": ernie_image_folder,
    "ovis": ovis_folder,
    "longcat": longcat_folder,
    "joyimage": joyimage_folder,
    "fibo2": fibo2_folder,
}
"""What writes a diffusers folder, by family."""
CHECKPOINTS = {
    "qwen_image_21": qwen_image_21_checkpoint,
    "krea2": krea2_checkpoint,
    "anima": anima_checkpoint,
    "ernie_image": ernie_image_checkpoint,
    "ovis": ovis_checkpoint,
    "longcat": longcat_checkpoint,
    "joyimage": joyimage_checkpoint,
    "fibo2": fibo2_checkpoint,
}
"""The tensors of a checkpoint with everything, by family."""
ASK_T5 = "qwen_3_06b_base.safetensors"
"""Text encoders that need T5's vocabulary beside them."""


def save(models, name):
    """A small file under the name of a real one, in its folder below `models`."""
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name in ASK_T5:
        t5_vocabulary(models / "tokenizers" / "t5")
    save_file({key: tensor.contiguous() for key, tensor in weights().items()}, path)
    return path
