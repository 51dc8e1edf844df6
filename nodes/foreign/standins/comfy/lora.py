"""LoRA files for `add_patches`: a file is applied as a whole, as LoraLoader does it."""

from graphflow_nodes.foreign.loras import StoredLora as _StoredLora
from graphflow_nodes.foreign.loras import path_of as _path_of

__all__ = ["load_lora", "model_lora_keys_clip", "model_lora_keys_unet"]


def model_lora_keys_unet(model, key_map=None):
    """Which names of files stand for which weights is known where the file is applied."""
    return {} if key_map is None else key_map


def model_lora_keys_clip(model, key_map=None):
    return {} if key_map is None else key_map


def load_lora(lora, to_load, log_missing=True):
    path = _path_of(lora, "LoRA")
    return {path.name: _StoredLora(path)}
