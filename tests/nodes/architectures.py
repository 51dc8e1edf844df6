"""Folders that state small models and have no weights: what a new model is made from."""

import json
import shutil

from graphflow_nodes.files.folders import BUILTIN

TINY = BUILTIN / "graphflow-tiny"
UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "scaling_factor": 0.7,
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 16,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDPMScheduler"],
}


def write_architecture(folder, unet=UNET, vae=VAE, text=TEXT, **scheduler):
    """A folder of Stable Diffusion 1.x, small, with the vocabulary of the built-in model."""
    vocabulary = len(json.loads((TINY / "tokenizer" / "vocab.json").read_text()))
    contents = {
        "model_index.json": INDEX,
        "unet/config.json": unet,
        "vae/config.json": vae,
        "text_encoder/config.json": {**text, "vocab_size": vocabulary},
        "scheduler/scheduler_config.json": {"_class_name": "DDPMScheduler", "prediction_type": "epsilon", **scheduler},
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    shutil.copytree(TINY / "tokenizer", folder / "tokenizer")
    return folder
