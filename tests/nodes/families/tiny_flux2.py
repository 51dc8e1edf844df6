"""A small FLUX.2 klein and dev and their VAE, in the key layout of the real files."""

import json

from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from graphflow_nodes.families.flux2.layout import LAYOUTS
from graphflow_nodes.families.kits import flux2_vae_network
from graphflow_nodes.families.kits.flux2_vae import FLUX2_VAE
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny, tiny_flow, tiny_language

CONFIG = Config(
    in_channels=128,
    num_layers=2,
    num_single_layers=2,
    attention_head_dim=32,
    num_attention_heads=2,
    joint_attention_dim=3 * tiny_flow.WIDTH["z_image"],
    axes_dims_rope=(8, 8, 8, 8),
    rope_theta=2000,
    mlp_ratio=3.0,
    timestep_guidance_channels=256,
    guidance_embeds=False,
)
DEV = {"guidance_embeds": True, "joint_attention_dim": 3 * tiny_language.SIZES["mistral3"]["hidden_size"]}
"""Where dev differs."""
VAE_CONFIG = tiny.VAE_CONFIG | {
    "latent_channels": 32,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "inner_quant_conv": True,
    "decoder_block_out_channels": tiny.VAE_CONFIG["block_out_channels"],
}


def denoiser(**changes):
    return tiny.filled(Flux2Transformer2DModel(**{**dict(CONFIG), **changes}), "flux2")


def vae():
    module = flux2_vae_network.build(VAE_CONFIG)
    module.bn.num_batches_tracked = module.bn.num_batches_tracked.to("meta")
    module = tiny.filled(module, "flux2-vae")
    module.bn.running_var = (module.bn.running_var.abs() + 0.5).half().float()
    return module.eval()


def denoiser_file(layout="bfl", **changes):
    return tiny.written(denoiser(**changes), LAYOUTS[layout](CONFIG | changes))


def vae_file(layout="ldm"):
    return tiny.written(vae(), FLUX2_VAE.parts["vae"].layouts[layout](VAE_CONFIG))


FILES = {
    "flux-2-klein-4b.safetensors": ("diffusion_models", denoiser_file),
    "flux2-vae.safetensors": ("vae", vae_file),
    "flux2_dev_fp8mixed.safetensors": ("diffusion_models", lambda: denoiser_file(**DEV)),
    "mistral_3_small_flux2_bf16.safetensors": ("text_encoders", lambda: tiny_language.text_file("mistral3")),
}
"""Names of files in workflows -> folder and tensors of a small one."""


def save(models, name):
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in weights().items()}, path)
    return path


def checkpoint():
    """dev with everything in one file, as ComfyUI writes checkpoints."""
    encoder = tiny_language.text_file("mistral3", "model.")
    return {
        **{f"model.diffusion_model.{name}": weight for name, weight in denoiser_file(**DEV).items()},
        **{f"text_encoders.mistral3_24b.transformer.{name}": weight for name, weight in encoder.items()},
        **{f"vae.{name}": weight for name, weight in vae_file().items()},
    }


def save_folder(place):
    """dev as a diffusers folder."""
    denoiser(**DEV).half().save_pretrained(place / "transformer")
    whole = vae()
    plain = {name: value for name, value in dict(VAE_CONFIG).items() if name != "inner_quant_conv"}
    stored = AutoencoderKLFlux2(**{name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()})
    stored.load_state_dict(whole.state_dict())
    stored.half().save_pretrained(place / "vae")
    (place / "text_encoder").mkdir()
    weights = tiny_language.text_file("mistral3", "language_model.model.")
    del weights["tekken_model"]
    save_file(weights, place / "text_encoder" / "model.safetensors")
    stated = {"rope_theta": 1e9, "rms_norm_eps": 1e-5, "head_dim": 128, "model_type": "mistral"}
    text = {"model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"], "text_config": stated}
    (place / "text_encoder" / "config.json").write_text(json.dumps(text))
    (place / "tokenizer").mkdir()
    (place / "tokenizer" / "tekken.json").write_bytes(tiny_language.tekken())
    index = {
        "_class_name": "Flux2Pipeline",
        "transformer": ["diffusers", "Flux2Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLFlux2"],
        "tokenizer": ["transformers", "PixtralProcessor"],
        "text_encoder": ["transformers", "Mistral3ForConditionalGeneration"],
    }
    (place / "model_index.json").write_text(json.dumps(index))
    return place
