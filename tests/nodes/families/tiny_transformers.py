"""Small FLUX.1, Stable Diffusion 3 and T5 in the key layout of real files, with random weights, and a vocabulary for
T5."""

from functools import cache

from graphflow_nodes.families import flux, sd3
from graphflow_nodes.families.flux import network as flux_network
from graphflow_nodes.families.kits import clip, clip_network, kl_vae_network, t5, t5_network
from graphflow_nodes.families.sd3 import network as sd3_network
from graphflow_nodes.model.config import Config
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from . import tiny as t

T5_WIDTH, CLIP_WIDTH = 32, 64
VOCABULARY = ["<pad>", "</s>", "<unk>", *"▁abcdefghijklmnopqrstuvwxyz,.!'0123456789-:"]
FLUX = {
    "in_channels": 64,
    "out_channels": 64,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": T5_WIDTH,
    "pooled_projection_dim": CLIP_WIDTH,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 14, 14),
}
SD3 = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 3,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 64,
    "pooled_projection_dim": 2 * CLIP_WIDTH,
    "pos_embed_max_size": 16,
    "dual_attention_layers": (0, 1),
    "qk_norm": "rms_norm",
}
VAE = t.VAE_CONFIG | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
T5 = Config(
    vocab_size=len(VOCABULARY),
    d_model=T5_WIDTH,
    d_kv=16,
    d_ff=64,
    num_layers=24,
    num_heads=2,
    relative_attention_num_buckets=32,
    feed_forward_proj="gated-gelu",
)
PREFIX = "model.diffusion_model."


def transformer(family, salt="", **changes):
    """(config, module) of a denoiser."""
    stated, network = (FLUX, flux_network) if family == "flux" else (SD3, sd3_network)
    config = Config({**stated, **changes})
    return config, t.filled(network.build(config), f"{family}{salt}")


def denoiser_weights(family, config, module, layout, prefix=""):
    layouts = (flux if family == "flux" else sd3).layout.LAYOUTS
    return t.written(module, layouts[layout](config), prefix)


@cache
def clip_module(letter, projection):
    config = t.text_config(letter) | {"projection": projection}
    return config, t.filled(clip_network.build(config), f"clip_{letter}")


def clip_weights(letter, projection=True, prefix=""):
    config, module = clip_module(letter, projection)
    return t.written(module, clip.LAYOUTS["transformers"](config), prefix)


@cache
def t5_module():
    return t.filled(t5_network.build(T5), "t5")


def t5_weights(prefix=""):
    return t.written(t5_module(), t5.PART.layouts["transformers"](T5), prefix)


def vae_module():
    return t.filled(kl_vae_network.build(VAE), "vae16")


def vae_weights(prefix=""):
    return t.written(vae_module(), t.KL_VAE.parts["vae"].layouts["ldm"](VAE), prefix)


def save(path, weights):
    return t.Tiny(None, weights, {}).save(path)


def save_vocabulary(models_folder):
    """T5's vocabulary where users put it, with letters for tokens."""
    folder = models_folder / "tokenizers" / "t5"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.Unigram([(token, -1.0) for token in VOCABULARY], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in VOCABULARY[:3]])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _flux(name, **changes):
    def write(models):
        config, module = transformer("flux", **changes)
        save(models / "diffusion_models" / name, denoiser_weights("flux", config, module, "bfl"))

    return write


def _t5(models):
    save(models / "text_encoders" / "t5xxl_fp16.safetensors", t5_weights())
    save_vocabulary(models)


def _sd35(models):
    config, module = transformer("sd3")
    weights = denoiser_weights("sd3", config, module, "mmdit", PREFIX)
    for letter in ("l", "g"):
        weights |= clip_weights(letter, prefix=f"text_encoders.clip_{letter}.transformer.")
    weights |= t5_weights("text_encoders.t5xxl.transformer.") | vae_weights("first_stage_model.")
    save(models / "checkpoints" / SD35, weights)
    save_vocabulary(models)


SD35 = "sd3.5_medium_incl_clips_t5xxlfp16.safetensors"
FILES = {
    **{name: _flux(name) for name in ("flux1-dev.safetensors", "flux1-dev-kontext.safetensors")},
    "flux1-fill-dev.safetensors": _flux("flux1-fill-dev.safetensors", in_channels=384),
    "clip_l.safetensors": lambda models: save(models / "text_encoders" / "clip_l.safetensors", clip_weights("l")),
    "t5xxl_fp16.safetensors": _t5,
    "ae.safetensors": lambda models: save(models / "vae" / "ae.safetensors", vae_weights()),
    SD35: _sd35,
}
"""The files that ComfyUI's users have of these families -> what writes a small one into a models folder."""


def save_named(models, name):
    FILES[name](models)


def save_models(folder, *names):
    """A models folder with these of `FILES`."""
    for name in names:
        save_named(folder, name)
    return folder
