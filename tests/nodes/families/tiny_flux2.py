"""A small FLUX.2 klein and its VAE, in the key layout of the real files."""

from diffusers import Flux2Transformer2DModel
from graphflow_nodes.families.flux2.layout import LAYOUTS
from graphflow_nodes.families.kits import flux2_vae_network
from graphflow_nodes.families.kits.flux2_vae import FLUX2_VAE
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

from . import tiny, tiny_flow

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
    return tiny.written(denoiser(**changes), LAYOUTS[layout](CONFIG))


def vae_file(layout="ldm"):
    return tiny.written(vae(), FLUX2_VAE.parts["vae"].layouts[layout](VAE_CONFIG))


FILES = {
    "flux-2-klein-4b.safetensors": ("diffusion_models", denoiser_file),
    "flux2-vae.safetensors": ("vae", vae_file),
}
"""Names of files in workflows -> folder and tensors of a small one."""


def save(models, name):
    folder, weights = FILES[name]
    path = models / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in weights().items()}, path)
    return path
