"""A small denoiser file of every family, under the name of a real one."""

from graphflow_nodes.families import chroma
from graphflow_nodes.families.chroma import network as chroma_network
from graphflow_nodes.model.config import Config

from . import (
    tiny,
    tiny_flow,
    tiny_flux2,
    tiny_flux3,
    tiny_hidream,
    tiny_ideogram4,
    tiny_kandinsky5,
    tiny_ltx,
    tiny_ltx2,
    tiny_modern,
    tiny_qwen,
    tiny_svd,
    tiny_transformers,
    tiny_wan,
)

CHROMA = Config(
    in_channels=64,
    num_layers=1,
    num_single_layers=1,
    attention_head_dim=32,
    num_attention_heads=2,
    joint_attention_dim=32,
    axes_dims_rope=(4, 14, 14),
    approximator_num_channels=64,
    approximator_hidden_dim=32,
    approximator_layers=1,
)


def _checkpoint(family):
    return f"{family}.safetensors", lambda models: tiny.tiny(family).save(
        models / "checkpoints" / f"{family}.safetensors"
    )


def _saved(module, name):
    return name, lambda models: module.save(models, name)


def _named(files, name):
    return name, files[name]


def save_chroma(models, name="chroma"):
    module = tiny.filled(chroma_network.build(CHROMA), "chroma")
    weights = tiny.written(module, chroma.LAYOUTS["original"](CHROMA), "")
    return tiny_transformers.save(models / "diffusion_models" / f"{name}.safetensors", weights)


DENOISERS = {
    **{family: _checkpoint(family) for family in ("sd1", "sd2", "sdxl", "sdxl_refiner")},
    "z_image": _saved(tiny_flow, "z_image_turbo_bf16.safetensors"),
    "lumina2": _saved(tiny_flow, "lumina_2_model_bf16.safetensors"),
    "qwen_image": _saved(tiny_qwen, "qwen_image_edit_2511_bf16.safetensors"),
    "qwen_image_21": _saved(tiny_modern, "qwen_image_2.1_bf16.safetensors"),
    "krea2": _saved(tiny_modern, "krea2_turbo_fp8_scaled.safetensors"),
    "anima": _saved(tiny_modern, "anima-base-v1.0.safetensors"),
    "ernie_image": _saved(tiny_modern, "ernie-image-turbo.safetensors"),
    "ovis": _saved(tiny_modern, "ovis_image_bf16.safetensors"),
    "longcat": _saved(tiny_modern, "longcat_image_bf16.safetensors"),
    "joyimage": _saved(tiny_modern, "joyai_image_edit_int8_convrot.safetensors"),
    "fibo2": _saved(tiny_modern, "fibo2_dev_int8_convrot.safetensors"),
    "flux2": _saved(tiny_flux2, "flux-2-klein-4b.safetensors"),
    "flux": _named(tiny_transformers.FILES, "flux1-dev.safetensors"),
    "sd3": _named(tiny_transformers.FILES, tiny_transformers.SD35),
    "flux3": _named(tiny_flux3.FILES, "flux3_klein_distilled_fp8.safetensors"),
    "hidream": _named(tiny_hidream.FILES, "hidream_i1_dev_bf16.safetensors"),
    "ideogram4": _named(tiny_ideogram4.FILES, "ideogram4_fp8_scaled.safetensors"),
    "kandinsky5": _named(tiny_kandinsky5.FILES, "kandinsky5lite_t2i.safetensors"),
    "chroma": ("chroma.safetensors", save_chroma),
    "ltx": _saved(tiny_ltx, "ltxv-13b-0.9.8-distilled-fp8.safetensors"),
    "ltx2": _saved(tiny_ltx2, "ltx-2-19b-dev_transformer_only.safetensors"),
    "svd": (tiny_svd.FILE, tiny_svd.save),
    "wan": _saved(tiny_wan, "wan2.1_t2v_1.3B_fp16.safetensors"),
}
"""Family -> the name of its file, and what writes it into a models folder (`checkpoints` or `diffusion_models`)."""
