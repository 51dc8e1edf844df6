"""A diffusers folder with a random model of Stable Diffusion XL's size: float16, 7 GB."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from .sd15_size import write_random

__all__ = ["BETAS", "NAME", "SCALE", "make_model"]

NAME = "sdxl_size"
SCALE = 0.13025
"""Of latents: what the VAE gives times this."""
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make_model(folder: Path) -> Path:
    """A models folder with the model, 7 GB; it is written once."""
    place = folder / "diffusers" / NAME
    if not (place / "model_index.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        _write_model(place)
    return folder


def _write_model(place: Path) -> None:
    """The networks are built without memory, for their names and shapes."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from graphflow_nodes.families.kits.clip import VOCABULARY
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    untyped: Any = (UNet2DConditionModel, AutoencoderKL, EulerDiscreteScheduler)
    with torch.device("meta"):
        unet = untyped[0](
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            projection_class_embeddings_input_dim=2816,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            use_linear_projection=True,
        )
        vae = untyped[1](
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=1024,
            scaling_factor=SCALE,
        )
        encoders = {
            "text_encoder": CLIPTextModel(_clip(768, 12, "quick_gelu")),
            "text_encoder_2": CLIPTextModelWithProjection(_clip(1280, 32, "gelu")),
        }
    for name, network in {"unet": unet, "vae": vae, **encoders}.items():
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        shapes = {one: tuple(weight.shape) for one, weight in network.named_parameters()}
        write_random(_made(place / name) / f"{stem}.safetensors", shapes)
        if isinstance(network.config, CLIPTextConfig):
            network.config.architectures = [type(network).__name__]  # as a model writes that is saved
            network.config.save_pretrained(place / name)
        else:
            network.save_config(place / name)
    untyped[2](**BETAS, timestep_spacing="leading").save_pretrained(place / "scheduler")
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        shutil.copytree(VOCABULARY, place / name)
        stated = place / name / "tokenizer_config.json"
        stated.write_text(json.dumps({**json.loads(stated.read_text()), "pad_token": pad}))
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": False, **parts}
    (place / "model_index.json").write_text(json.dumps(index))


def _clip(width: int, layers: int, act: str) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        hidden_act=act,
        eos_token_id=49407,
        bos_token_id=49406,
    )


def _made(place: Path) -> Path:
    place.mkdir(parents=True)
    return place
