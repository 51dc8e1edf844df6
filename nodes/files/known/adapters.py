"""Files that are neither a model nor a part of one: ControlNets, adapters, patches, upscalers."""

from __future__ import annotations

import math

from .keys import Keys, Rule

__all__ = ["CONTROLS", "FOLDERS", "UPSCALERS", "control_family"]

FOLDERS = {
    "checkpoint": "checkpoints",
    "pipeline": "diffusers",
    "diffusion model": "diffusion_models",
    "VAE": "vae",
    "text encoder": "text_encoders",
    "image encoder": "clip_vision",
    "LoRA": "loras",
    "ControlNet": "controlnet",
    "T2I-Adapter": "controlnet",
    "Control-LoRA": "controlnet",
    "model patch": "model_patches",
    "style model": "style_models",
    "latent upscale model": "latent_upscale_models",
    "IP-Adapter": "ipadapter",
    "upscale model": "upscale_models",
    "embedding": "embeddings",
    "GLIGEN": "gligen",
    "PhotoMaker": "photomaker",
    "hypernetwork": "hypernetworks",
    "conditioning": "embeddings",
    "VAE approximation": "vae_approx",
}
"""Kind of file -> the sub-folder of a models folder that it belongs into."""


def _union(keys: Keys) -> str:
    types = keys.rows("task_embedding")
    if keys.has("control_add_embedding.linear_1.bias") and types:
        return f"union of {types} types"
    return ""


def control_family(keys: Keys) -> str:
    """The family whose U-Net a ControlNet steers, by the columns of its cross attention."""
    return {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"}.get(
        keys.columns(keys.ending("attn2.to_k.weight")), ""
    )


def _ip_adapter(keys: Keys) -> str:
    if keys.contains(r"to_q_lora\.down|perceiver_resampler"):
        return "FaceID"
    if keys.has("image_proj.latents"):
        return "Plus"
    return "full face" if keys.has("image_proj.proj.3.weight") else ""


def _photomaker(keys: Keys) -> str:
    return "version 2" if keys.contains(r"(^|\n)(id_encoder\.)?qformer_perceiver\.") else "version 1"


_BLOCKS = "controlnet_blocks.0.weight"

CONTROLS: tuple[tuple[str, Rule], ...] = (
    ("ControlNet", Rule("hunyuan_dit", ("after_proj_list.18.bias",))),
    ("Control-LoRA", Rule("sdxl", ("lora_controlnet",))),
    ("ControlNet", Rule("", ("controlnet_cond_embedding.conv_in.weight",), variant=_union)),
    (
        "ControlNet",
        Rule("flux", (_BLOCKS, "double_blocks.0.img_attn.norm.key_norm.scale"), variant=lambda keys: "XLabs"),
    ),
    (
        "ControlNet",
        Rule(
            "sd3",
            (_BLOCKS, "pos_embed_input.proj.weight"),
            variant=lambda keys: (
                "3.5 large (Stability)" if keys.has("transformer_blocks.0.adaLN_modulation.1.bias") else ""
            ),
        ),
    ),
    (
        "ControlNet",
        Rule(
            "qwen_image",
            (_BLOCKS, "transformer_blocks.0.img_mlp.net.0.proj.weight"),
            variant=lambda keys: (
                "InstantX, inpainting" if keys.columns("controlnet_x_embedder.weight") == 68 else "InstantX"
            ),
        ),
    ),
    (
        "ControlNet",
        Rule(
            "flux",
            (_BLOCKS, "controlnet_x_embedder.weight"),
            variant=lambda keys: "union" if keys.has("controlnet_mode_embedder.weight") else "",
        ),
    ),
    (
        "ControlNet",
        Rule(
            "qwen_image",
            ("control_blocks.0.after_proj.weight", "control_img_in.weight"),
            variant=lambda keys: "Fun union",
        ),
    ),
    ("ControlNet", Rule("flux", ("controlnet_blocks.0.linear.weight",), variant=lambda keys: "MistoLine")),
    (
        "model patch",
        Rule(
            "sdxl",
            ("control_model.input_hint_block.0.weight",),
            lambda keys: not keys.has("control_model.zero_convs.0.0.weight"),
            lambda keys: "SUPIR",
        ),
    ),
    ("ControlNet", Rule("", ("control_model.zero_convs.0.0.weight",))),
    ("ControlNet", Rule("", ("zero_convs.0.0.weight",))),
    ("T2I-Adapter", Rule("", ("adapter.body.0.resnets.0.block1.weight",))),
    ("T2I-Adapter", Rule("", ("body.0.in_conv.weight",))),
    ("T2I-Adapter", Rule("", ("body.0.block1.weight",))),
    ("T2I-Adapter", Rule("", ("adapter.body.0.in_conv.weight",))),
    ("model patch", Rule("z_image", ("control_all_x_embedder.2-1.weight",), variant=lambda keys: "Fun ControlNet")),
    (
        "model patch",
        Rule("qwen_image", ("controlnet_blocks.0.y_rms.weight",), variant=lambda keys: "DiffSynth control"),
    ),
    ("model patch", Rule("flux", ("feature_embedder.mid_layer_norm.bias",), variant=lambda keys: "USO projector")),
    ("model patch", Rule("anima", ("lllite_conditioning1.conv1.weight",), variant=lambda keys: "ControlNet-LLLite")),
    ("model patch", Rule("sdxl", ("lllite_unet_*",), variant=lambda keys: "ControlNet-LLLite")),
    ("model patch", Rule("wan", ("audio_proj.proj1.weight",), variant=lambda keys: "InfiniteTalk")),
    ("model patch", Rule("wan", ("controlnet_patch_embedding.weight",), variant=lambda keys: "Uni3C")),
    ("IP-Adapter", Rule("flux", ("double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight",))),
    ("IP-Adapter", Rule("", ("image_proj.*", "ip_adapter.*"), variant=_ip_adapter)),
    (
        "latent upscale model",
        Rule("ltx", ("initial_conv.weight", "upsampler.0.weight", "post_upsample_res_blocks.0.conv1.weight")),
    ),
    (
        "latent upscale model",
        Rule("ltx2", ("initial_conv.weight", "upsampler.conv.weight", "post_upsample_res_blocks.0.conv1.weight")),
    ),
    ("style model", Rule("flux", ("redux_up.weight", "redux_down.weight"), variant=lambda keys: "Redux")),
    ("style model", Rule("sd1", ("style_embedding",), variant=lambda keys: "T2I-Adapter style")),
    (
        "GLIGEN",
        Rule(
            "sd1",
            ("position_net.null_positive_feature", "position_net.linears.0.weight"),
            variant=lambda keys: "boxes with texts",
        ),
    ),
    ("hypernetwork", Rule("sd1", ("768.0.linear*", "768.1.linear*"))),
    ("hypernetwork", Rule("sd2", ("1024.0.linear*", "1024.1.linear*"))),
    ("hypernetwork", Rule("sdxl", ("2048.0.linear*", "2048.1.linear*"))),
    ("hypernetwork", Rule("", (), lambda keys: keys.contains(r"(^|\n)\d+\.0\.linear\.?\d+\.weight"))),
    ("PhotoMaker", Rule("sdxl", ("id_encoder.*", "lora_weights.*"), variant=_photomaker)),
    ("PhotoMaker", Rule("sdxl", ("id_encoder.visual_projection_2.weight",), variant=_photomaker)),
    ("PhotoMaker", Rule("sdxl", ("visual_projection_2.weight", "fuse_module.*"), variant=_photomaker)),
)
"""(kind of file, row). A row without a name: the family is that of the U-Net, by its cross attention."""


def _old_esrgan_scale(keys: Keys) -> int:
    """Of convolutions `model.N.weight` the first is the entrance; the last two are not upsamplers (Wang et al.
    2018)."""
    found = [
        name for name in keys.tensors if name.count(".") == 2 and name.startswith("model.") and name.endswith("weight")
    ]
    return 1 << max(len(found) - 3, 0)


def _new_esrgan_scale(keys: Keys) -> int:
    """Four times, less what is unshuffled at the entrance: 3 channels, or 12 or 48."""
    return {12: 2, 48: 1}.get(keys.columns("conv_first.weight"), 4)


def _compact_scale(keys: Keys) -> int:
    last = keys.count("body.") - 1
    return math.isqrt(max(keys.rows(f"body.{last}.weight") // 3, 1))


UPSCALERS: tuple[Rule, ...] = (
    Rule(
        "ESRGAN",
        ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
        variant=lambda keys: f"{_old_esrgan_scale(keys)}x",
    ),
    Rule(
        "ESRGAN", ("conv_first.weight", "body.0.rdb1.conv1.weight"), variant=lambda keys: f"{_new_esrgan_scale(keys)}x"
    ),
    Rule(
        "ESRGAN",
        ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"),
        variant=lambda keys: f"{_new_esrgan_scale(keys)}x",
    ),
    Rule(
        "Real-ESRGAN compact",
        ("body.0.weight", "body.1.weight"),
        lambda keys: len(keys.shape("body.0.weight")) == 4 and len(keys.shape("body.1.weight")) == 1,
        lambda keys: f"{_compact_scale(keys)}x",
    ),
    Rule("HAT", ("conv_first.weight",), lambda keys: keys.contains(r"residual_group\.overlap_attn")),
    Rule(
        "Swin2SR", ("conv_first.weight",), lambda keys: keys.contains(r"residual_group\.blocks\.\d+\.attn\.logit_scale")
    ),
    Rule("SwinIR", ("conv_first.weight", "layers.0.residual_group.blocks.0.attn.relative_position_bias_table")),
    Rule("DAT", ("conv_first.weight", "before_RG.1.weight")),
    Rule("SPAN", ("block_1.c1_r.sk.weight",)),
    Rule("SCUNet", ("m_head.0.weight", "m_tail.0.weight")),
    Rule("NAFNet", ("intro.weight", "ending.weight", "middle_blks.*")),
)
"""Networks that enlarge or mend images. Names are those behind `module.`."""
