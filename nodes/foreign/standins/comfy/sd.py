"""What a CLIP and a VAE are, and files of models by path."""

import enum

from graphflow_nodes.foreign.clip_face import ClipFace as CLIP
from graphflow_nodes.foreign.stored_files import load_lora_for_models
from graphflow_nodes.foreign.vae_face import VaeFace as VAE

__all__ = [
    "CLIP",
    "VAE",
    "CLIPType",
    "load_checkpoint_guess_config",
    "load_clip",
    "load_diffusion_model",
    "load_lora_for_models",
    "load_unet",
]


class CLIPType(enum.Enum):
    """The families that text encoders are loaded for, by the names of loaders."""

    STABLE_DIFFUSION = 1
    STABLE_CASCADE = 2
    SD3 = 3
    STABLE_AUDIO = 4
    HUNYUAN_DIT = 5
    FLUX = 6
    MOCHI = 7
    LTXV = 8
    HUNYUAN_VIDEO = 9
    PIXART = 10
    COSMOS = 11
    LUMINA2 = 12
    WAN = 13
    HIDREAM = 14
    CHROMA = 15
    ACE = 16
    OMNIGEN2 = 17
    QWEN_IMAGE = 18
    HUNYUAN_IMAGE = 19
    HUNYUAN_VIDEO_15 = 20
    FLUX2 = 21


def load_checkpoint_guess_config(
    ckpt_path, output_vae=True, output_clip=True, output_clipvision=False, embedding_directory=None, **_
):
    """(MODEL, CLIP, VAE, CLIP_VISION); None for what the file lacks or nobody asks for."""
    from graphflow_nodes.foreign.stored_files import load_checkpoint

    model, clip, vae = load_checkpoint(ckpt_path)
    return model, clip if output_clip else None, vae if output_vae else None, None


def load_diffusion_model(unet_path, model_options=None):
    from graphflow_nodes.foreign.stored_files import load_checkpoint

    return load_checkpoint(unet_path)[0]


load_unet = load_diffusion_model


def load_clip(ckpt_paths, embedding_directory=None, clip_type=CLIPType.STABLE_DIFFUSION, model_options=None):
    from graphflow_nodes.foreign.stored_files import load_text_encoders

    return load_text_encoders(ckpt_paths, clip_type.name.lower())
