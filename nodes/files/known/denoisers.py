"""Which family a denoiser is of: the decision table on names and shapes. The first row that matches is the answer.

The order matters: families copy blocks of each other, so names of one are found in files of another.
"""

from __future__ import annotations

from collections.abc import Callable

from .keys import Keys, Rule

__all__ = ["DENOISERS", "prefix_of", "unet_family"]


def prefix_of(keys: Keys) -> str:
    """The prefix of the denoiser's tensors in a file: that of most names, where more than five have it."""
    counts = {
        prefix: sum(name.startswith(prefix) for name in keys.tensors)
        for prefix in ("model.diffusion_model.", "model.model.", "net.")
    }
    best = max(counts, key=lambda prefix: counts[prefix])
    if counts[best] > 5:
        return best
    return "model." if keys.starts("model.") else ""


def _said(*found: str | None) -> str:
    return ", ".join(word for word in found if word)


def _if(keys: Keys, words: dict[str, str]) -> str:
    """The words whose names are there."""
    return _said(*(word for name, word in words.items() if keys.starts(name)))


def _sd3(keys: Keys) -> str:
    if keys.starts("joint_blocks.0.x_block.attn2."):
        return "3.5 medium"
    return "3.5 large" if keys.count("joint_blocks.") == 38 else "3 medium"


def _video(keys: Keys) -> str:
    channels = keys.columns("img_in.proj.weight")
    return "text to video" if channels == 16 else f"image to video ({channels} channels)"


def _flux2(keys: Keys) -> str:
    width = keys.rows("img_in.weight")
    return {3072: "klein 4B", 4096: "klein 9B"}.get(width, "dev" if keys.starts("guidance_in.") else "")


def _flux(keys: Keys) -> str:
    columns = keys.columns("img_in.weight")
    kind = {384: "Fill", 128: "Canny or Depth", 64: ""}.get(columns, f"{columns} input columns")
    return _said("dev" if keys.has("guidance_in.in_layer.weight") else "schnell", kind)


def _wan(keys: Keys) -> str:
    channels, out = keys.columns("patch_embedding.weight"), keys.shape("head.head.weight")[:1]
    version = {16: "text to video", 36: "image to video", 48: "2.2 5B", 32: "Fun control"}.get(channels, "")
    if channels == 48 and out and out != (192,):
        version = "Fun control"
    width = keys.rows("patch_embedding.weight")
    size = {1536: "1.3B", 5120: "14B"}.get(width, "")
    more = {
        "vace_patch_embedding.": "VACE",
        "face_adapter.": "Animate",
        "casual_audio_encoder.": "S2V",
        "control_adapter.conv.": "camera control",
    }
    clip = "with CLIP vision" if keys.has("img_emb.proj.0.bias") else ""
    return _said(version, size, _if(keys, more), clip)


def _qwen(keys: Keys) -> str:
    words = {"__index_timestep_zero__": "Edit 2511", "time_text_embed.addition_t_embedding.weight": "Layered"}
    return _if(keys, words)


def _kandinsky(keys: Keys) -> str:
    width = keys.rows("visual_embeddings.in_layer.weight")
    return {2560: "image lite", 1792: "video lite", 4096: "pro"}.get(width, "")


def unet_family(context: int, channels: int, label: int) -> str:
    """The family of a U-Net by the columns of its cross attention, its model channels and the columns of its class
    embedding; "" for another."""
    if context == 1280 or (label == 2560 and channels == 384):
        return "sdxl_refiner"
    if context == 2048 or label == 2816:
        return "sdxl"
    return {768: "sd1", 1024: "sd2"}.get(context, "")


def _context(keys: Keys) -> int:
    return keys.columns(keys.ending("attn2.to_k.weight"))


def _label(keys: Keys) -> int:
    return keys.columns("label_emb.0.0.weight")


def _is(family: str) -> Callable[[Keys], bool]:
    """Whether a U-Net in LDM layout is of a family."""
    return lambda keys: unet_family(_context(keys), keys.rows("input_blocks.0.0.weight"), _label(keys)) == family


def _is_diffusers(family: str) -> Callable[[Keys], bool]:
    def test(keys: Keys) -> bool:
        label = keys.columns("add_embedding.linear_1.weight")
        return unet_family(_context(keys), keys.rows("conv_in.weight"), label) == family

    return test


_TAKES = {9: "inpainting", 8: "instruct-pix2pix", 5: "depth"}


def _unet(keys: Keys) -> str:
    label = _label(keys)
    of_2 = {1536: "unCLIP", 2048: "unCLIP", 4: "Lotus"}.get(label) if _context(keys) == 1024 else ""
    edm = "Playground 2.5" if keys.has("edm_mean", "edm_std") else "CosXL" if keys.has("edm_vpred.sigma_max") else ""
    v = "v-prediction" if keys.has("v_pred") else ""
    ztsnr = "zero terminal SNR" if keys.has("ztsnr") else ""
    return _said(_TAKES.get(keys.columns("input_blocks.0.0.weight")), of_2, v, ztsnr, edm)


def _diffusers_unet(keys: Keys) -> str:
    return _said(_TAKES.get(keys.columns("conv_in.weight")))


FLUX_NORM = "double_blocks.0.img_attn.norm.key_norm.{}"


def _is_flux(keys: Keys) -> bool:
    return keys.has(FLUX_NORM.format("scale")) or keys.has(FLUX_NORM.format("weight"))


UNETS = ("sd1", "sd2", "sdxl", "sdxl_refiner")

DENOISERS: tuple[Rule, ...] = (
    Rule("sd3", ("joint_blocks.0.context_block.attn.qkv.weight",), variant=_sd3),
    Rule("auraflow", ("double_layers.0.attn.w1q.weight",)),
    Rule(
        "hunyuan_image",
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight",),
        lambda keys: len(keys.shape("img_in.proj.weight")) == 4,
    ),
    Rule(
        "hunyuan_video_15",
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "vision_in.proj.0.weight"),
        variant=_video,
    ),
    Rule("hunyuan_video", ("txt_in.individual_token_refiner.blocks.0.norm1.weight",), variant=_video),
    Rule(
        "flux3",
        ("early_stream_modulations.image.lin.weight",),
        variant=lambda keys: "distilled (flow map)" if keys.has("ref_time_in.in_layer.weight") else "base",
    ),
    Rule("flux2", ("double_stream_modulation_img.lin.weight",), _is_flux, _flux2),
    Rule(
        "chroma",
        ("distilled_guidance_layer.*",),
        _is_flux,
        lambda keys: "Radiance (pixels)" if keys.starts("nerf_", "img_in_patch.") else "",
    ),
    Rule("ovis", ("double_blocks.0.img_mlp.gate_proj.weight",), _is_flux),
    Rule(
        "longcat",
        (),
        lambda keys: _is_flux(keys) and keys.has("txt_in.weight") and not keys.starts("vector_in."),
    ),
    Rule("flux", (), _is_flux, _flux),
    Rule("mochi", ("t5_yproj.weight",)),
    Rule("minimax_h3", ("video_patch_proj.weight", "audio_patch_proj.weight")),
    Rule("pixart", ("adaln_single.emb.timestep_embedder.linear_1.bias", "pos_embed.proj.bias")),
    Rule("ltx2", ("adaln_single.emb.timestep_embedder.linear_1.bias", "audio_adaln_single.linear.weight")),
    Rule("ltx", ("adaln_single.emb.timestep_embedder.linear_1.bias",)),
    Rule(
        "lumina2",
        ("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight"),
        lambda keys: keys.rows("cap_embedder.1.weight") != 3840,
        lambda keys: _if(keys, {"clip_text_pooled_proj.0.weight": "NewBie"}),
    ),
    Rule(
        "z_image",
        ("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight"),
        variant=lambda keys: (
            "Omni" if keys.has("siglip_embedder.0.weight") else "" if keys.has("cap_pad_token") else "Ming"
        ),
    ),
    Rule("wan", ("head.modulation",), variant=_wan),
    Rule("hidream", ("double_stream_blocks.0.block.adaLN_modulation.1.bias",)),
    Rule("anima", ("blocks.0.adaln_modulation_self_attn.1.weight", "llm_adapter.*")),
    Rule("cosmos", ("blocks.0.adaln_modulation_self_attn.1.weight",)),
    Rule("lens", ("transformer_blocks.0.attn.norm_added_q.weight", "transformer_blocks.0.img_mlp.w1.weight")),
    Rule("qwen_image_21", ("txt_in.text_norm.weight",)),
    Rule("mage_flow", ("txt_norm.weight",), lambda keys: keys.rows("txt_norm.weight") == 2560),
    Rule("qwen_image", ("txt_norm.weight",), variant=_qwen),
    Rule("ideogram4", ("embed_image_indicator.weight",)),
    Rule("krea2", ("txtfusion.projector.weight",)),
    Rule("kandinsky5", ("visual_transformer_blocks.0.cross_attention.key_norm.weight",), variant=_kandinsky),
    Rule("ernie_image", ("layers.0.mlp.linear_fc2.weight",)),
    Rule("joyimage", ("double_blocks.0.attn.img_attn_qkv.weight", "double_blocks.0.attn.img_attn_q_norm.weight")),
    Rule("fibo2", ("perceiver.latent_queries", "noise_refiner.0.attention.to_q.weight")),
    Rule("seedvr2", ("positive_conditioning",)),
    Rule("svd", ("input_blocks.0.0.weight",), lambda keys: keys.contains(r"time_stack")),
    *(Rule(family, ("input_blocks.0.0.weight",), _is(family), _unet) for family in UNETS),
    Rule("svd", ("down_blocks.0.resnets.0.spatial_res_block.conv1.weight",)),
    *(
        Rule(family, ("down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"), _is_diffusers(family), _diffusers_unet)
        for family in UNETS
    ),
    Rule(
        "flux",
        ("transformer_blocks.0.attn.add_q_proj.weight", "single_transformer_blocks.0.proj_mlp.weight"),
        variant=lambda keys: "dev" if keys.starts("time_text_embed.guidance_embedder.") else "schnell",
    ),
    Rule("flux2", ("single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight",)),
    Rule(
        "sd3",
        ("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"),
        variant=lambda keys: (
            "3.5 medium"
            if keys.starts("transformer_blocks.0.attn2.")
            else "3.5 large"
            if keys.count("transformer_blocks.") == 38
            else "3 medium"
        ),
    ),
)
"""Names are those behind the prefix of the denoiser (`prefix_of`)."""
