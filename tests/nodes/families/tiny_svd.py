"""Small models of Stable Video Diffusion in the key layout of real files and as a diffusers folder, with random
weights."""

import json

import torch
from graphflow_nodes.families.clip_vision import LAYOUTS, VIDEO
from graphflow_nodes.families.kits import temporal_vae_network
from graphflow_nodes.families.kits.temporal_vae import TEMPORAL_VAE
from graphflow_nodes.families.svd import SVD, network
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny, tiny_vision

UNET = Config(
    in_channels=8,
    out_channels=4,
    block_out_channels=[32, 64],
    layers_per_block=1,
    cross_attention_dim=tiny_vision.CONFIG.projection_dim,
    projection_class_embeddings_input_dim=768,
    transformer_layers_per_block=[1, 1],
    num_attention_heads=[1, 1],
    addition_time_embed_dim=256,
    down_block_types=["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
    up_block_types=["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
)
VAE = Config(
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    block_out_channels=[32, 32],
    layers_per_block=2,
    down_block_types=["DownEncoderBlock2D"] * 2,
    use_quant_conv=False,
)
FILE = "svd.safetensors"
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Of the names of weight files."""


def modules(**changes):
    """The networks by part."""
    return {
        "denoiser": tiny.filled(network.build(UNET | changes), "svd"),
        "vae": tiny.filled(temporal_vae_network.build(VAE), "svd.vae"),
        "vision": tiny_vision.encoder("openclip"),
    }


def weights_of(made, **changes):
    """The tensors of a whole checkpoint."""
    tables = {
        tiny.UNET: ("denoiser", SVD.parts["denoiser"].layouts["ldm"](UNET | changes)),
        tiny.VAE: ("vae", TEMPORAL_VAE.parts["vae"].layouts["ldm"](VAE)),
        VIDEO: ("vision", LAYOUTS["openclip"](tiny_vision.CONFIG)),
    }
    found = {}
    for prefix, (part, table) in tables.items():
        found |= tiny.written(made[part], table, prefix)
    return {name: one.contiguous() for name, one in found.items() if "position_ids" not in name}


def save(models, made=None):
    path = models / "checkpoints" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights_of(made or modules()), path)
    return path


def save_folder(folder, made):
    """The same as a diffusers folder. Its VAE has the convolution behind the encoder that checkpoints lack: one that
    changes nothing."""
    written = {name: dict(module.state_dict()) for name, module in made.items()}
    written["vae"] |= {"quant_conv.weight": torch.eye(8)[:, :, None, None], "quant_conv.bias": torch.zeros(8)}
    classes = {
        "unet": ("denoiser", "diffusers", "UNetSpatioTemporalConditionModel"),
        "vae": ("vae", "diffusers", "AutoencoderKLTemporalDecoder"),
        "image_encoder": ("vision", "transformers", "CLIPVisionModelWithProjection"),
    }
    for name, (part, library, kind) in classes.items():
        (folder / name).mkdir(parents=True)
        weights = {key: one.contiguous() for key, one in written[part].items() if "position_ids" not in key}
        save_file(weights, folder / name / f"{STEMS[library]}.safetensors")
        config = {} if library == "transformers" else dict(made[part].config)
        (folder / name / "config.json").write_text(json.dumps({**config, "_class_name": kind}))
    index = {name: [library, kind] for name, (_, library, kind) in classes.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableVideoDiffusionPipeline", **index}))
    return folder
