"""The families by name: what people call them, and what their denoisers need to run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLASSES", "TITLES", "Title"]


@dataclass(frozen=True, slots=True)
class Title:
    """`text` and `vae` are what a denoiser alone needs beside it; empty: not known, or nothing."""

    title: str
    text: tuple[str, ...] = ()
    vae: str = ""


CLIP_L, CLIP_G, T5, QWEN25 = "CLIP-L", "CLIP-G", "T5-XXL", "Qwen2.5-VL 7B"
FLUX_VAE, FLUX2_VAE, QWEN_VAE = "the FLUX.1 VAE (ae, 16 channels)", "the FLUX.2 VAE", "the Qwen-Image VAE"

TITLES = {
    "sd1": Title("Stable Diffusion 1.x", (CLIP_L,), "the Stable Diffusion VAE"),
    "sd2": Title("Stable Diffusion 2.x", ("CLIP-H",), "the Stable Diffusion VAE"),
    "sdxl": Title("Stable Diffusion XL", (CLIP_L, CLIP_G), "the SDXL VAE"),
    "sdxl_refiner": Title("Stable Diffusion XL refiner", (CLIP_G,), "the SDXL VAE"),
    "svd": Title("Stable Video Diffusion", (), "the Stable Video Diffusion VAE"),
    "sd3": Title("Stable Diffusion 3", (CLIP_L, CLIP_G, T5), "the Stable Diffusion 3 VAE (16 channels)"),
    "cascade": Title("Stable Cascade", (CLIP_G,), "the Stable Cascade stage A"),
    "auraflow": Title("AuraFlow", ("Pile-T5 XL",), "the SDXL VAE"),
    "pixart": Title("PixArt", (T5,), "the Stable Diffusion VAE, or that of SDXL for Sigma"),
    "hunyuan_dit": Title("Hunyuan-DiT", ("CLIP for Chinese", "mT5-XL"), "the SDXL VAE"),
    "hunyuan_image": Title("HunyuanImage 2.1", (QWEN25, "ByT5-small glyph"), "the HunyuanImage VAE"),
    "hunyuan_video": Title("HunyuanVideo", (CLIP_L, "Llama 3.1 8B"), "the HunyuanVideo VAE"),
    "hunyuan_video_15": Title("HunyuanVideo 1.5", (QWEN25, "ByT5-small glyph"), "the HunyuanVideo 1.5 VAE"),
    "flux": Title("FLUX.1", (CLIP_L, T5), FLUX_VAE),
    "flux2": Title("FLUX.2", ("Mistral 3 24B",), FLUX2_VAE),
    "flux3": Title("FLUX.3", ("Qwen3-VL 4B",), FLUX2_VAE),
    "chroma": Title("Chroma", (T5,), FLUX_VAE),
    "longcat": Title("LongCat-Image", (QWEN25,), FLUX_VAE),
    "ovis": Title("Ovis-Image", ("Qwen3 2B (Ovis 2.5)",), FLUX_VAE),
    "mochi": Title("Mochi", (T5,), "the Mochi VAE"),
    "minimax_h3": Title("MiniMax H3", ("Qwen3-VL 32B, cut to 50 layers",), "the MiniMax H3 VAE"),
    "ltx": Title("LTX-Video", (T5,), "the LTX VAE"),
    "ltx2": Title("LTX-2", ("Gemma 3 12B",), "the LTX-2 VAE"),
    "lumina2": Title("Lumina 2", ("Gemma 2 2B",), FLUX_VAE),
    "z_image": Title("Z-Image", ("Qwen3 4B",), FLUX_VAE),
    "wan": Title("Wan", ("UMT5-XXL",), "the Wan 2.1 VAE"),
    "hidream": Title("HiDream", (CLIP_L, CLIP_G, T5, "Llama 3.1 8B"), FLUX_VAE),
    "anima": Title("Anima", ("Qwen3 0.6B",), QWEN_VAE),
    "cosmos": Title("Cosmos Predict2", ("T5-XXL v1.0",), "the Wan 2.1 VAE"),
    "lens": Title("Lens", ("GPT-OSS 20B",), ""),
    "qwen_image": Title("Qwen-Image", (QWEN25,), QWEN_VAE),
    "qwen_image_21": Title("Qwen-Image 2.1", ("Qwen3-VL 8B",), "the Qwen-Image 2.1 VAE"),
    "mage_flow": Title("Mage-Flow", ("Qwen3-VL 4B",), ""),
    "ideogram4": Title("Ideogram 4", ("Qwen3-VL 8B",), FLUX2_VAE),
    "krea2": Title("Krea 2", ("Qwen3-VL 4B",), QWEN_VAE),
    "kandinsky5": Title("Kandinsky 5", (QWEN25, CLIP_L), FLUX_VAE),
    "ernie_image": Title("ERNIE-Image", ("Ministral 3 3B",), FLUX2_VAE),
    "joyimage": Title("JoyImage Edit", ("Qwen3-VL 8B",), "the Wan 2.1 VAE"),
    "seedvr2": Title("SeedVR2", (), "the SeedVR2 VAE"),
    "fibo2": Title("FIBO 2", ("Qwen3-VL 4B",), FLUX2_VAE),
    "sana": Title("Sana", ("Gemma 2 2B",), "the DC-AE VAE"),
    "cogvideox": Title("CogVideoX", (T5,), "the CogVideoX VAE"),
}

CLASSES = {
    "SD3Transformer2DModel": "sd3",
    "FluxTransformer2DModel": "flux",
    "Flux2Transformer2DModel": "flux2",
    "Flux3Transformer2DModel": "flux3",
    "ChromaTransformer2DModel": "chroma",
    "StableCascadeUNet": "cascade",
    "QwenImageTransformer2DModel": "qwen_image",
    "QwenImage21Transformer2DModel": "qwen_image_21",
    "Krea2Transformer2DModel": "krea2",
    "ZImageTransformer2DModel": "z_image",
    "Lumina2Transformer2DModel": "lumina2",
    "HiDreamImageTransformer2DModel": "hidream",
    "OvisImageTransformer2DModel": "ovis",
    "LongCatImageTransformer2DModel": "longcat",
    "ErnieImageTransformer2DModel": "ernie_image",
    "Ideogram4Transformer2DModel": "ideogram4",
    "Kandinsky5Transformer3DModel": "kandinsky5",
    "JoyImageEditTransformer3DModel": "joyimage",
    "BriaFibo2Transformer2DModel": "fibo2",
    "CosmosTransformer3DModel": "cosmos",
    "WanTransformer3DModel": "wan",
    "WanVACETransformer3DModel": "wan",
    "LTXVideoTransformer3DModel": "ltx",
    "LTX2VideoTransformer3DModel": "ltx2",
    "HunyuanVideoTransformer3DModel": "hunyuan_video",
    "HunyuanVideo15Transformer3DModel": "hunyuan_video_15",
    "HunyuanImageTransformer2DModel": "hunyuan_image",
    "HunyuanDiT2DModel": "hunyuan_dit",
    "MiniMaxH3Transformer3DModel": "minimax_h3",
    "MochiTransformer3DModel": "mochi",
    "PixArtTransformer2DModel": "pixart",
    "AuraFlowTransformer2DModel": "auraflow",
    "SanaTransformer2DModel": "sana",
    "CogVideoXTransformer3DModel": "cogvideox",
    "UNetSpatioTemporalConditionModel": "svd",
}
"""Class of the transformer in a diffusers folder -> family. A UNet2DConditionModel is told by its numbers."""
