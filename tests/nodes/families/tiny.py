"""Small models of every family in the key layout of real files, with random weights, and the modules they are made
of."""

import zlib
from dataclasses import dataclass

import torch
from graphflow_nodes.families import FAMILIES
from graphflow_nodes.families.kits import clip, clip_network, kl_vae_network, unet, unet_network
from graphflow_nodes.families.kits.kl_vae import KL_VAE
from graphflow_nodes.files.convert import TensorPlace
from graphflow_nodes.model.config import Config
from safetensors.torch import save_file

UNETS = {
    "sd1": {"block_out_channels": [32, 64, 64, 64], "attention_head_dim": 8, "cross_attention_dim": 64},
    "sd2": {
        "block_out_channels": [64, 64, 64, 64],
        "attention_head_dim": [1, 1, 1, 1],
        "cross_attention_dim": 64,
        "use_linear_projection": True,
    },
    "sdxl": {
        "block_out_channels": [32, 64, 64],
        "attention_head_dim": [1, 1, 1],
        "cross_attention_dim": 128,
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2, 3],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 64 + 6 * 256,
    },
    "sdxl_refiner": {
        "block_out_channels": [32, 64, 64, 64],
        "attention_head_dim": [1, 1, 1, 1],
        "cross_attention_dim": 64,
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2, 2, 2],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 64 + 5 * 256,
    },
}
TEXTS = {
    "sd1": {"l": ("cond_stage_model.transformer.", "transformers")},
    "sd2": {"h": ("cond_stage_model.model.", "openclip")},
    "sdxl": {
        "l": ("conditioner.embedders.0.transformer.", "transformers"),
        "g": ("conditioner.embedders.1.model.", "openclip"),
    },
    "sdxl_refiner": {"g": ("conditioner.embedders.0.model.", "openclip")},
}
LAYERS = {"l": 12, "h": 24, "g": 32}
UNET, VAE = "model.diffusion_model.", "first_stage_model."
VAE_CONFIG = Config(
    block_out_channels=[32] * 4,
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=32,
    down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4,
)


@dataclass
class Tiny:
    """`weights` are what a file holds; `modules` the networks with those weights, by part."""

    family: object
    weights: dict
    modules: dict

    def save(self, path, **more):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({**self.weights, **more}, path)
        return path


def text_config(letter):
    return Config(
        vocab_size=49408,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=LAYERS[letter],
        num_attention_heads=1,
        max_position_embeddings=77,
        hidden_act="quick_gelu" if letter == "l" else "gelu",
        projection_dim=64,
        projection=letter != "l",
        pad=None if letter == "l" else 0,
        bos_token_id=49406,
        eos_token_id=49407,
    )


def tiny(name, channels=4, **changes):
    """A whole checkpoint of a family, `channels` wide at its entry."""
    config = Config(
        {"in_channels": channels, "out_channels": 4, "layers_per_block": 2, **FOUR, **UNETS[name], **changes}
    )
    modules = {"denoiser": filled(unet_network.build(config), name)}
    weights = written(modules["denoiser"], unet.ldm_table(config), UNET)
    for letter, (prefix, layout) in TEXTS[name].items():
        text = text_config(letter)
        modules[f"text.{letter}"] = filled(clip_network.build(text), f"{name}.{letter}")
        weights |= written(modules[f"text.{letter}"], clip.LAYOUTS[layout](text), prefix)
    modules["vae"] = filled(kl_vae_network.build(VAE_CONFIG), "vae")
    weights |= written(modules["vae"], KL_VAE.parts["vae"].layouts["ldm"](VAE_CONFIG), VAE)
    return Tiny(next(family for family in FAMILIES if family.name == name), weights, modules)


FOUR = {
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}


def filled(module, salt):
    """Weights drawn by name, float16 as in most files."""
    state = {name: draw(f"{salt}.{name}", weight.shape) for name, weight in module.state_dict().items()}
    module.load_state_dict(state, assign=True)
    return module.float().eval().requires_grad_(False)


def draw(name, shape):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) == 1:
        return (1 + 0.05 * noise if name.endswith(".weight") else 0.02 * noise).half()
    return (noise * (0.05 if "embedding" in name and "time" not in name else shape[1:].numel() ** -0.5)).half()


def written(module, table, prefix=""):
    """The tensors of a file, as a table states where each parameter lies; rows of one tensor are put together."""
    found, rows = {}, {}
    for name, weight in module.state_dict().items():
        place = place_of(table, name)
        weight = weight.half()
        if place.form == "transposed":
            weight = weight.T
        if place.form == "swapped":
            weight = weight.roll(len(weight) // 2, dims=0)
        if place.form == "flat" and weight.dim() == 2:
            weight = weight[:, :, None, None]
        if place.rows is not None:
            rows.setdefault(place.key, []).append((place.rows, weight))
        else:
            found[prefix + place.key] = weight.contiguous()
    for key, parts in rows.items():
        found[prefix + key] = torch.cat([weight for _, weight in sorted(parts, key=lambda part: part[0])])
    return found


def place_of(table, name):
    module, rest = name, ""
    while True:
        place = table.get(module)
        if isinstance(place, TensorPlace):
            return place
        if place is not None:
            return TensorPlace(".".join(part for part in (place, rest) if part))
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}" if rest else last
