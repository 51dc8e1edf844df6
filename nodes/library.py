"""Every node type of this library in one namespace: the entry point `graphflow.nodes` names this module.

The theme modules import no torch at the top, so listing, validating and running from cache stay quick.
"""

from .conditioning import clip_set_last_layer, clip_text_encode, conditioning_combine, conditioning_zero_out
from .images import image_scale, load_image, preview_image, save_image
from .latents import add_noise, empty_latent_image, latent_upscale, latent_upscale_by, load_latent, save_latent
from .loaders import checkpoint_loader_simple, vae_loader
from .primitives import (
    primitive_boolean,
    primitive_float,
    primitive_int,
    primitive_string,
    primitive_string_multiline,
)
from .sampling import ksampler, ksampler_advanced
from .vae import vae_decode, vae_encode

__all__ = [
    "add_noise", "checkpoint_loader_simple", "clip_set_last_layer", "clip_text_encode", "conditioning_combine",
    "conditioning_zero_out", "empty_latent_image", "image_scale", "ksampler", "ksampler_advanced", "latent_upscale",
    "latent_upscale_by", "load_image", "load_latent", "preview_image", "primitive_boolean", "primitive_float", "primitive_int",
    "primitive_string", "primitive_string_multiline", "save_image", "save_latent", "vae_decode", "vae_encode", "vae_loader",
]  # fmt: skip
