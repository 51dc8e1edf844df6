"""A small Kandinsky 5 in the key layout of the real files, with random weights."""

from graphflow_nodes.families.kandinsky5 import network
from graphflow_nodes.model.config import Config

from . import tiny, tiny_qwen
from . import tiny_transformers as tt

CONFIG = Config(
    in_visual_dim=16,
    in_text_dim=tiny_qwen.WIDTH,
    in_text_dim2=tt.CLIP_WIDTH,
    time_dim=32,
    out_visual_dim=16,
    patch_size=(1, 2, 2),
    model_dim=64,
    ff_dim=96,
    num_text_blocks=1,
    num_visual_blocks=2,
    axes_dims=(8, 12, 12),
)


def denoiser():
    return tiny.filled(network.build(CONFIG), "kandinsky5")


def denoiser_file(prefix=""):
    return {prefix + name: weight for name, weight in tiny_qwen.half(denoiser()).items()}


FILES = {
    "kandinsky5lite_t2i.safetensors": lambda models: tt.save(
        models / "diffusion_models" / "kandinsky5lite_t2i.safetensors", denoiser_file()
    ),
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": lambda models: tiny_qwen.save(
        models, "qwen_2.5_vl_7b_fp8_scaled.safetensors"
    ),
    "clip_l.safetensors": tt.FILES["clip_l.safetensors"],
    "ae.safetensors": tt.FILES["ae.safetensors"],
}
"""Names of files in workflows -> what writes a small one into a models folder."""
