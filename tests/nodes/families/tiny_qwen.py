"""Small versions of Qwen-Image and its kin, Qwen2.5-VL and the VAE of Wan, written in the key layouts of real files.

The names of Wan's layout are made here by counting blocks and replacing words, apart from the table that reads them.
"""

import json
import re

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from graphflow_nodes.families.kits import qwen25_vl_network
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny

WIDTH = 32
"""Of the text."""
VARIANTS = {
    "": {},
    "Edit 2511": {"zero_cond_t": True},
    "Layered": {"use_additional_t_cond": True, "use_layer3d_rope": True},
}
TEXT = {
    "text": {
        "vocab_size": 151936,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 8,
        "hidden_size": 160,
        "intermediate_size": 64,
        "out_hidden_size": WIDTH,
        "num_heads": 2,
        "in_channels": 3,
        "temporal_patch_size": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
}


def denoiser(variant=""):
    module = QwenImageTransformer2DModel(
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 14, 14),
        **VARIANTS[variant],
    )
    return tiny.filled(module, "qwen_image")


def vae(channels=3):
    module = AutoencoderKLQwenImage(
        base_dim=8,
        dim_mult=[1, 2, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        input_channels=channels,
    )
    return tiny.filled(module, "wan_vae")


def text():
    return tiny.filled(qwen25_vl_network.build(Config(TEXT)), "qwen25vl")


def half(module):
    return {name: weight.half().contiguous() for name, weight in module.state_dict().items()}


def denoiser_file(variant="", prefix=""):
    marks = {"__index_timestep_zero__": torch.zeros(0)} if variant == "Edit 2511" else {}
    return {prefix + name: weight for name, weight in (half(denoiser(variant)) | marks).items()}


def text_file(prefix=""):
    """The names of single files: `model.layers`, `visual.blocks`."""
    return {prefix + re.sub(r"^language_model\.", "model.", name): weight for name, weight in half(text()).items()}


WAN_WORDS = (
    (".norm1.", ".residual.0."),
    (".conv1.", ".residual.2."),
    (".norm2.", ".residual.3."),
    (".conv2.", ".residual.6."),
    (".conv_shortcut.", ".shortcut."),
    (".conv_in.", ".conv_first."),
    (".norm_out.", ".head.0."),
    (".conv_out.", ".head.2."),
    (".mid_block.resnets.0.", ".middle.0."),
    (".mid_block.attentions.0.", ".middle.1."),
    (".mid_block.resnets.1.", ".middle.2."),
    (".conv_first.", ".conv1."),
    ("encoder.down_blocks.", "encoder.downsamples."),
)


def vae_file(channels=3, prefix=""):
    found = {}
    for name, weight in half(vae(channels)).items():
        name = re.sub(r"^(post_)?quant_conv", lambda hit: "conv2" if hit[1] else "conv1", name)
        # Each level of the decoder has two residual blocks and an enlargement; Wan counts them through.
        name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda hit: f"upsamples.{3 * int(hit[1]) + int(hit[2])}", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda hit: f"upsamples.{3 * int(hit[1]) + 2}", name)
        if not name.startswith("conv"):
            for word, other in WAN_WORDS:
                name = name.replace(word, other)
        found[prefix + name] = weight
    return found


FILES = {
    "qwen_image_2512_fp8_e4m3fn.safetensors": ("diffusion_models", denoiser_file),
    "qwen_image_edit_2511_bf16.safetensors": ("diffusion_models", lambda: denoiser_file("Edit 2511")),
    "qwen_image_layered_bf16.safetensors": ("diffusion_models", lambda: denoiser_file("Layered")),
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": ("text_encoders", text_file),
    "qwen_image_vae.safetensors": ("vae", vae_file),
    "qwen_image_layered_vae.safetensors": ("vae", lambda: vae_file(4)),
}
"""Names of files in workflows -> folder and tensors of a small one."""


def save(models, name):
    """A small file under the name of a real one, in its folder below `models`."""
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights(), path)
    return path


def checkpoint():
    """All in one file, as ComfyUI writes checkpoints."""
    return {
        **denoiser_file(prefix="model.diffusion_model."),
        **text_file("text_encoders.qwen25_7b.transformer."),
        **vae_file(prefix="vae."),
    }


def save_folder(place):
    """A diffusers folder with all its parts; its text encoder as transformers 5 writes it."""
    denoiser().half().save_pretrained(place / "transformer")
    vae().half().save_pretrained(place / "vae")
    (place / "text_encoder").mkdir()
    weights = {f"model.{name}": weight for name, weight in half(text()).items()}
    save_file(weights, place / "text_encoder" / "model.safetensors")
    stated = {
        "model_type": "qwen2_5_vl",
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "text_config": {"rope_parameters": TEXT["text"]["rope_parameters"]},
        "vision_config": {"num_heads": 2, "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112},
        "image_token_id": 151655,
    }
    (place / "text_encoder" / "config.json").write_text(json.dumps(stated))
    (place / "tokenizer").mkdir()
    qwen_tokenizer().save(str(place / "tokenizer" / "tokenizer.json"))
    index = {
        "_class_name": "QwenImagePipeline",
        "transformer": ["diffusers", "QwenImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLQwenImage"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"],
        "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
    }
    (place / "model_index.json").write_text(json.dumps(index))
    return place
