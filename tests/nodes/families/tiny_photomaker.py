"""Small PhotoMakers in the key layout of the published files, with random weights."""

import torch

from . import tiny, tiny_vision

WIDTH = 128
"""Of the prompts of the small SDXL."""
SECOND = WIDTH - tiny_vision.CONFIG.projection_dim


def weights():
    """The tensors of `id_encoder` by their names in files."""
    found = {name: one.half() for name, one in tiny_vision.encoder().state_dict().items()}
    shapes = {"visual_projection_2.weight": (SECOND, tiny_vision.CONFIG.hidden_size)}
    for name, entry in (("mlp1", 2 * WIDTH), ("mlp2", WIDTH)):
        shapes |= {f"fuse_module.{name}.layernorm.{kind}": (entry,) for kind in ("weight", "bias")}
        shapes |= {f"fuse_module.{name}.fc1.weight": (WIDTH, entry), f"fuse_module.{name}.fc2.weight": (WIDTH, WIDTH)}
        shapes |= {f"fuse_module.{name}.{layer}.bias": (WIDTH,) for layer in ("fc1", "fc2")}
    shapes |= {f"fuse_module.layer_norm.{kind}": (WIDTH,) for kind in ("weight", "bias")}
    return found | {name: tiny.draw(f"photomaker.{name}", torch.Size(shape)) for name, shape in shapes.items()}


def save(path, **more):
    """A file as version 1 was published: a pickle of two mappings. Returns the tensors of the encoder."""
    found = weights()
    lora = {"unet.down_blocks.1.attentions.0.proj.lora.up.weight": torch.zeros(4, 2)}
    notes = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"id_encoder": {**found, **notes, **more}, "lora_weights": lora}, path)
    return found
