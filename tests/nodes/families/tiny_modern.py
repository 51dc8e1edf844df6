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
    CosmosTransformer3DModel,
    Krea2Transformer2DModel,
    QwenImage21Transformer2DModel,
)
from graphflow_nodes.families.kits import qwen3_vl_network
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny, tiny_language, tiny_qwen, tiny_transformers

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
    (re.compile(r"^quant_conv"), "conv1"), (re.compile(r"^post_quant_conv"), "conv2"),
    (re.compile(r"down_blocks\.(\d)\.resnets"), r"downsamples.\1.downsamples"),
    (re.compile(r"up_blocks\.(\d)\.resnets"), r"upsamples.\1.upsamples"),
    (re.compile(r"down_blocks\.(\d)\.downsampler"), r"downsamples.\1.downsamples.1"),
    (re.compile(r"up_blocks\.(\d)\.upsampler"), r"upsamples.\1.upsamples.2"),
    (".norm1.", ".residual.0."), (".conv1.", ".residual.2."), (".norm2.", ".residual.3."), (".conv2.", ".residual.6."),
    (".conv_shortcut.", ".shortcut."), (".conv_in.", ".conv1."), (".norm_out.", ".head.0."), (".conv_out.", ".head.2."),
    (".mid_block.resnets.0.", ".middle.0."), (".mid_block.attentions.0.", ".middle.1."),
    (".mid_block.resnets.1.", ".middle.2."),
)  # fmt: skip
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
    (re.compile("^img_in"), "first"), (re.compile("^time_embed.linear_1"), "tmlp.0"),
    (re.compile("^time_embed.linear_2"), "tmlp.2"), (re.compile("^time_mod_proj"), "tproj.1"),
    (re.compile("^txt_in.norm.weight"), "txtmlp.0.scale"), (re.compile("^txt_in.linear_1"), "txtmlp.1"),
    (re.compile("^txt_in.linear_2"), "txtmlp.3"), (re.compile("^text_fusion"), "txtfusion"),
    (re.compile("^transformer_blocks"), "blocks"), (re.compile("^final_layer.linear"), "last.linear"),
    (re.compile("^final_layer.norm.weight"), "last.norm.scale"),
    (re.compile("^final_layer.scale_shift_table"), "last.modulation.lin"), (".to_q.", ".wq."), (".to_k.", ".wk."),
    (".to_v.", ".wv."), (".to_out.0.", ".wo."), (".to_gate.", ".gate."), (".norm_q.weight", ".qknorm.qnorm.scale"),
    (".norm_k.weight", ".qknorm.knorm.scale"), (".ff.", ".mlp."), (".norm1.weight", ".prenorm.scale"),
    (".norm2.weight", ".postnorm.scale"), (".scale_shift_table", ".mod.lin"),
)  # fmt: skip


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
    ("time_embed.t_embedder", "t_embedder.1"), ("time_embed.norm", "t_embedding_norm"),
    ("norm_out.linear_", "final_layer.adaln_modulation."), ("proj_out", "final_layer.linear"),
    ("patch_embed.proj", "x_embedder.proj.1"), ("norm1.linear_", "adaln_modulation_self_attn."),
    ("norm2.linear_", "adaln_modulation_cross_attn."), ("norm3.linear_", "adaln_modulation_mlp."),
    ("ff.net.0.proj", "mlp.layer1"), ("ff.net.2", "mlp.layer2"), ("attn1", "self_attn"), ("attn2", "cross_attn"),
    ("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out.0", "output_proj"), ("norm_q", "q_norm"),
    ("norm_k", "k_norm"), ("transformer_blocks", "blocks"),
)  # fmt: skip


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


FILES = {
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
FOLDERS = {"qwen_image_21": qwen_image_21_folder, "krea2": krea2_folder, "anima": anima_folder}
"""What writes a diffusers folder, by family."""
ASK_T5 = ("qwen_3_06b_base.safetensors",)
"""Text encoders that need T5's vocabulary beside them."""
CHECKPOINTS = {"qwen_image_21": qwen_image_21_checkpoint, "krea2": krea2_checkpoint, "anima": anima_checkpoint}
"""The tensors of a checkpoint with everything, by family."""


def save(models, name):
    """A small file under the name of a real one, in its folder below `models`."""
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name in ASK_T5:
        t5_vocabulary(models / "tokenizers" / "t5")
    save_file({key: tensor.contiguous() for key, tensor in weights().items()}, path)
    return path
