"""The table of memory in models.md, made anew: `python docs/memory.py` (after a new family or number format).

Each released network is built empty from the published arguments of its class in diffusers or transformers. Its header
(names and shapes) goes through the family that recognises it, as a file does, so that what is counted is the network
that this library builds and holds. Bytes: the parameters times the bytes of a weight in each format. Matrices and
convolutions take the format; vectors (biases, norms) are never packed and take two bytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from graphflow_nodes.families import FAMILIES, recognise, recognise_vae
from graphflow_nodes.families.clip_vision import CLIP_VISION
from graphflow_nodes.families.opened import FINDERS
from graphflow_nodes.families.photomaker import PHOTOMAKER
from graphflow_nodes.files.header import Header, TensorInfo
from graphflow_nodes.files.load import build
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.family import Part

PAGE = Path(__file__).parent / "models.md"
BEGIN, END = "<!-- memory: python docs/memory.py -->", "<!-- end of memory -->"

COLUMNS: Mapping[str, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "Q8_0": 34 / 32,
    "mxfp8": 33 / 32,
    "fp8, int8": 1.0,
    "Q6_K": 210 / 256,
    "Q5_K": 176 / 256,
    "nvfp4, w4a8, Q4_K": 144 / 256,
    "Q3_K": 110 / 256,
    "Q2_K": 84 / 256,
}
"""Bytes of a weight of a matrix, with its scales. nvfp4 and w4a8: 4 bits, and 8 bits for 16 of them; Q4_K has as many:
144 bytes for 256."""

LOOKED_AT = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
"""The numbers of this one show which noise a Stable Diffusion 2 predicts; here are no numbers."""


@dataclass(frozen=True, slots=True)
class Released:
    """One network that is published."""

    title: str
    library: str
    """diffusers or transformers."""
    name: str
    """Of its class."""
    arguments: Mapping[str, Any]
    part: str = ""
    """Its folder, where a family needs a second network to recognise it."""
    prefix: str = ""
    """Stands before the names of the class's tensors in files."""
    more: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Tensors of its file that the class does not have."""
    beside: tuple[Released, ...] = ()
    is_inferred: bool = False
    """Its arguments are not published: they are the class's defaults, or give the published number of parameters."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The parameters of a network as this library holds it."""

    title: str
    family: str
    """The name of the family that recognised it; that of the part for a text encoder."""
    matrices: int
    vectors: int
    fixed: str
    """The number format of a part that never has another, else ""."""
    is_inferred: bool

    @property
    def parameters(self) -> int:
        return self.matrices + self.vectors

    def bytes(self, column: str) -> int:
        each = COLUMNS[column]
        return math.ceil(self.matrices * each) + self.vectors * (4 if column == "float32" else 2)


def _unet(title: str, **arguments: Any) -> Released:
    return Released(title, "diffusers", "UNet2DConditionModel", arguments)


def _diffusers(title: str, name: str, **arguments: Any) -> Released:
    return Released(title, "diffusers", name, arguments)


def _language(
    title: str, name: str, width: int, layers: int, inner: int, heads: tuple[int, int], **more: Any
) -> Released:
    arguments = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": 128,
        **more,
    }
    return Released(title, "transformers", name, arguments)


def _clip(title: str, name: str, width: int, layers: int, **more: Any) -> Released:
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 64,
        "projection_dim": width,
    }
    return Released(title, "transformers", name, {**sizes, **more})


def _vision(
    title: str,
    sizes: tuple[int, int, int],
    projection: int,
    more: Mapping[str, tuple[int, ...]] | None = None,
) -> Released:
    """`sizes`: width, layers, inner width."""
    width, layers, inner = sizes
    arguments = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": projection,
    }
    return Released(title, "transformers", "CLIPVisionModelWithProjection", arguments, more=more or {})


def _fuse(width: int) -> dict[str, tuple[int, ...]]:
    """What PhotoMaker has beside CLIP's ViT-L: a second projection, and the module that fuses an image with a word."""
    found: dict[str, tuple[int, ...]] = {"visual_projection_2.weight": (1280, 1024)}
    for name, entry in (("mlp1", 2 * width), ("mlp2", width)):
        found |= {f"fuse_module.{name}.layernorm.{kind}": (entry,) for kind in ("weight", "bias")}
        found |= {f"fuse_module.{name}.fc1.weight": (width, entry), f"fuse_module.{name}.fc2.weight": (width, width)}
        found |= {f"fuse_module.{name}.{layer}.bias": (width,) for layer in ("fc1", "fc2")}
    return found | {f"fuse_module.layer_norm.{kind}": (width,) for kind in ("weight", "bias")}


QWEN_WORDS = {"vocab_size": 151936, "tie_word_embeddings": True}
QWEN3_VL_HEADS = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
SDXL_UNET = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "use_linear_projection": True}
LTX_DECODER: dict[str, Any] = {
    "decoder_block_out_channels": (256, 512, 1024),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}
LTX2_TEXT = "diffusers.pipelines.ltx2.connectors"
CONNECTORS_23: dict[str, Any] = {
    "rope_type": "split",
    "per_modality_projections": True,
    "proj_bias": True,
    "video_connector_num_attention_heads": 32,
    "audio_connector_num_attention_heads": 32,
    "audio_connector_attention_head_dim": 64,
    "video_connector_num_layers": 8,
    "audio_connector_num_layers": 8,
    "video_gated_attn": True,
    "audio_gated_attn": True,
}
WAN_1_3B = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
KL = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}

DENOISERS = (
    _unet("Stable Diffusion 1.x", cross_attention_dim=768),
    _unet(
        "Stable Diffusion 2.x", cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
    ),
    _unet(
        "Stable Diffusion XL",
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        projection_class_embeddings_input_dim=2816,
        **SDXL_UNET,
    ),
    _unet(
        "Stable Diffusion XL refiner",
        block_out_channels=(384, 768, 1536, 1536),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=4,
        attention_head_dim=(6, 12, 24, 24),
        cross_attention_dim=1280,
        projection_class_embeddings_input_dim=2560,
        **SDXL_UNET,
    ),
    _diffusers("Z-Image, Turbo", "ZImageTransformer2DModel"),
    _diffusers("Lumina 2, NetaYume", "Lumina2Transformer2DModel", cap_feat_dim=2304),
    _diffusers("Qwen-Image, 2512, Edit, 2509, 2511", "QwenImageTransformer2DModel"),
    _diffusers("Qwen-Image-Layered", "QwenImageTransformer2DModel", use_additional_t_cond=True, use_layer3d_rope=True),
    _diffusers("Qwen-Image 2.1", "QwenImage21Transformer2DModel"),
    _diffusers("Krea 2", "Krea2Transformer2DModel"),
    _diffusers("FLUX.1 dev, Krea, Kontext, Fill, Canny, Depth", "FluxTransformer2DModel", guidance_embeds=True),
    _diffusers("FLUX.1 schnell", "FluxTransformer2DModel", guidance_embeds=False),
    _diffusers("FLUX.2 dev", "Flux2Transformer2DModel"),
    _diffusers(
        "FLUX.2 klein 4B",
        "Flux2Transformer2DModel",
        num_layers=5,
        num_single_layers=20,
        num_attention_heads=24,
        joint_attention_dim=7680,
        guidance_embeds=False,
    ),
    _diffusers(
        "FLUX.2 klein 9B",
        "Flux2Transformer2DModel",
        num_layers=8,
        num_single_layers=24,
        num_attention_heads=32,
        joint_attention_dim=12288,
        guidance_embeds=False,
    ),
    Released("FLUX.3 klein", "diffusers", "Flux3Transformer2DModel", {}, is_inferred=True),
    Released("FLUX.3 klein, distilled", "diffusers", "Flux3Transformer2DModel", {"flow_map": True}, is_inferred=True),
    _diffusers(
        "Stable Diffusion 3 medium",
        "SD3Transformer2DModel",
        num_layers=24,
        num_attention_heads=24,
        caption_projection_dim=1536,
        pos_embed_max_size=192,
    ),
    _diffusers(
        "Stable Diffusion 3.5 medium",
        "SD3Transformer2DModel",
        num_layers=24,
        num_attention_heads=24,
        caption_projection_dim=1536,
        pos_embed_max_size=384,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    ),
    _diffusers(
        "Stable Diffusion 3.5 large",
        "SD3Transformer2DModel",
        num_layers=38,
        num_attention_heads=38,
        caption_projection_dim=2432,
        pos_embed_max_size=192,
        qk_norm="rms_norm",
    ),
    Released(
        "Anima",
        "diffusers",
        "CosmosTransformer3DModel",
        {"num_attention_heads": 16, "rope_scale": (1.0, 4.0, 4.0), "extra_pos_embed_type": None},
        part="transformer",
        beside=(Released("its conditioner", "diffusers", "AnimaTextConditioner", {}, part="text_conditioner"),),
    ),
    Released(
        "ERNIE-Image, Turbo",
        "diffusers",
        "ErnieImageTransformer2DModel",
        {
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_layers": 36,
            "ffn_hidden_size": 12288,
            "text_in_dim": 3072,
        },
        is_inferred=True,
    ),
    _diffusers("Ovis-Image", "OvisImageTransformer2DModel"),
    Released(
        "LongCat-Image, Edit",
        "diffusers",
        "LongCatImageTransformer2DModel",
        {"num_layers": 10, "num_single_layers": 20},
        is_inferred=True,
    ),
    _diffusers("Chroma1", "ChromaTransformer2DModel"),
    _diffusers(
        "HiDream-I1, E1",
        "HiDreamImageTransformer2DModel",
        patch_size=2,
        in_channels=16,
        out_channels=16,
        caption_channels=(4096, 4096),
        llama_layers=(*range(32), *(31,) * 16),
    ),
    _diffusers("Ideogram 4 (each of its two)", "Ideogram4Transformer2DModel"),
    _diffusers(
        "Kandinsky 5 Image Lite",
        "Kandinsky5Transformer3DModel",
        in_visual_dim=16,
        out_visual_dim=16,
        model_dim=2560,
        ff_dim=10240,
        num_visual_blocks=50,
        axes_dims=(32, 48, 48),
    ),
    Released(
        "JoyImage Edit",
        "diffusers",
        "JoyImageEditTransformer3DModel",
        {"hidden_size": 4096, "num_attention_heads": 32, "num_layers": 40},
        is_inferred=True,
    ),
    _diffusers("FIBO 2", "BriaFibo2Transformer2DModel"),
    _diffusers("Wan 2.1, text to video 1.3B", "WanTransformer3DModel", **WAN_1_3B),
    _diffusers("Wan 2.1, text to video 14B; Wan 2.2 A14B (each of its two)", "WanTransformer3DModel"),
    _diffusers(
        "Wan 2.1, image to video 14B", "WanTransformer3DModel", in_channels=36, image_dim=1280, added_kv_proj_dim=5120
    ),
    _diffusers(
        "Wan 2.2 TI2V 5B",
        "WanTransformer3DModel",
        in_channels=48,
        out_channels=48,
        num_attention_heads=24,
        num_layers=30,
        ffn_dim=14336,
    ),
    _diffusers("LTX-Video 0.9 to 0.9.8, 2B", "LTXVideoTransformer3DModel"),
    _diffusers(
        "LTX-Video 0.9.7, 0.9.8, 13B",
        "LTXVideoTransformer3DModel",
        attention_head_dim=128,
        cross_attention_dim=4096,
        num_layers=48,
    ),
    _diffusers("LTX-2", "LTX2VideoTransformer3DModel", rope_type="split"),
    _diffusers(
        "LTX-2.3",
        "LTX2VideoTransformer3DModel",
        rope_type="split",
        gated_attn=True,
        audio_gated_attn=True,
        cross_attn_mod=True,
        audio_cross_attn_mod=True,
        use_prompt_embeddings=False,
    ),
    _diffusers("Stable Video Diffusion, XT", "UNetSpatioTemporalConditionModel"),
)
ENCODERS = (
    _clip("CLIP-L", "CLIPTextModelWithProjection", 768, 12),
    _clip("CLIP-H", "CLIPTextModelWithProjection", 1024, 24),
    _clip("CLIP-G", "CLIPTextModelWithProjection", 1280, 32),
    Released(
        "T5-XXL",
        "transformers",
        "T5EncoderModel",
        {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"},
    ),
    Released(
        "UMT5-XXL",
        "transformers",
        "UMT5EncoderModel",
        {
            "vocab_size": 256384,
            "d_model": 4096,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
            "feed_forward_proj": "gated-gelu",
        },
    ),
    _language("Gemma 2 2B", "Gemma2Model", 2304, 26, 9216, (8, 4), **{"head_dim": 256, "vocab_size": 256000}),
    _language("Gemma 3 12B", "Gemma3TextModel", 3840, 48, 15360, (16, 8), **{"head_dim": 256, "vocab_size": 262208}),
    Released("Text connectors of LTX-2", LTX2_TEXT, "LTX2TextConnectors", {"rope_type": "split"}),
    Released("Text connectors of LTX-2.3", LTX2_TEXT, "LTX2TextConnectors", CONNECTORS_23),
    _language("Qwen3 0.6B", "Qwen3Model", 1024, 28, 3072, (16, 8), **QWEN_WORDS),
    _language("Ovis 2.5 (Qwen3 2B)", "Qwen3Model", 2048, 28, 6144, (16, 8), **QWEN_WORDS),
    _language("Qwen3 4B", "Qwen3Model", 2560, 36, 9728, (32, 8), **QWEN_WORDS),
    _language("Qwen3 8B", "Qwen3Model", 4096, 36, 12288, (32, 8), **QWEN_WORDS),
    Released(
        "Qwen2.5-VL 7B",
        "transformers",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {
                "hidden_size": 3584,
                "num_hidden_layers": 28,
                "intermediate_size": 18944,
                "num_attention_heads": 28,
                "num_key_value_heads": 4,
                "vocab_size": 152064,
            },
            "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
        },
    ),
    Released(
        "Qwen3-VL 4B",
        "transformers",
        "Qwen3VLForConditionalGeneration",
        {
            "tie_word_embeddings": True,
            "text_config": {
                "hidden_size": 2560,
                "num_hidden_layers": 36,
                "intermediate_size": 9728,
                **QWEN3_VL_HEADS,
            },
            "vision_config": {
                "depth": 24,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "out_hidden_size": 2560,
                "deepstack_visual_indexes": [5, 11, 17],
            },
        },
    ),
    Released(
        "Qwen3-VL 8B",
        "transformers",
        "Qwen3VLForConditionalGeneration",
        {
            "text_config": {
                "hidden_size": 4096,
                "num_hidden_layers": 36,
                "intermediate_size": 12288,
                **QWEN3_VL_HEADS,
            },
            "vision_config": {
                "depth": 27,
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "out_hidden_size": 4096,
                "deepstack_visual_indexes": [8, 16, 24],
            },
        },
    ),
    _language("Mistral 3 24B", "MistralModel", 5120, 40, 32768, (32, 8), vocab_size=131072),
    _language("Mistral 3 24B, cut to 30 layers", "MistralModel", 5120, 30, 32768, (32, 8), vocab_size=131072),
    _language("Ministral 3 3B", "MistralModel", 3072, 26, 9216, (32, 8), vocab_size=131072),
    _language("Llama 3.1 8B", "LlamaModel", 4096, 32, 14336, (32, 8), vocab_size=128256),
)
VISION = (
    _vision("CLIP ViT-L", (1024, 24, 4096), 768),
    _vision("CLIP ViT-H", (1280, 32, 5120), 1024),
    _vision("CLIP ViT-bigG", (1664, 48, 8192), 1280),
    Released(
        "SigLIP so400m, 384 px",
        "transformers",
        "SiglipVisionModel",
        {
            "hidden_size": 1152,
            "num_hidden_layers": 27,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "patch_size": 14,
            "image_size": 384,
        },
        prefix="vision_model.",
    ),
    _vision("PhotoMaker, version 1", (1024, 24, 4096), 768, _fuse(2048)),
)
VAES = (
    _diffusers("Stable Diffusion's", "AutoencoderKL", latent_channels=4, **KL),
    _diffusers(
        "FLUX.1's, Stable Diffusion 3's",
        "AutoencoderKL",
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **KL,
    ),
    _diffusers(
        "Stable Video Diffusion's",
        "AutoencoderKLTemporalDecoder",
        **{name: value for name, value in KL.items() if name != "up_block_types"},
    ),
    _diffusers("FLUX.2's", "AutoencoderKLFlux2"),
    _diffusers("Qwen-Image's, Wan 2.1's", "AutoencoderKLQwenImage"),
    _diffusers("Qwen-Image-Layered's", "AutoencoderKLQwenImage", input_channels=4),
    _diffusers("Qwen-Image 2.1's", "AutoencoderKLQwenImage21"),
    _diffusers(
        "Wan 2.2 5B's",
        "AutoencoderKLWan",
        base_dim=160,
        decoder_base_dim=256,
        z_dim=48,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    ),
    _diffusers("LTX-Video's, 0.9", "AutoencoderKLLTXVideo"),
    _diffusers(
        "LTX-Video's, 0.9.1",
        "AutoencoderKLLTXVideo",
        decoder_layers_per_block=(5, 6, 7, 8),
        decoder_inject_noise=(True, True, True, False),
        **LTX_DECODER,
    ),
    _diffusers(
        "LTX-Video's, from 0.9.5 on",
        "AutoencoderKLLTXVideo",
        block_out_channels=(128, 256, 512, 1024, 2048),
        down_block_types=("LTXVideo095DownBlock3D",) * 4,
        layers_per_block=(4, 6, 6, 2, 2),
        decoder_layers_per_block=(5, 5, 5, 5),
        spatio_temporal_scaling=(True,) * 4,
        decoder_inject_noise=(False,) * 4,
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        **LTX_DECODER,
    ),
    _diffusers("LTX-2's", "AutoencoderKLLTX2Video", decoder_causal=False),
    _diffusers(
        "LTX-2.3's",
        "AutoencoderKLLTX2Video",
        decoder_causal=False,
        block_out_channels=(256, 512, 1024, 1024),
        layers_per_block=(4, 6, 4, 2, 2),
        decoder_block_out_channels=(256, 512, 512, 1024),
        decoder_layers_per_block=(4, 6, 4, 2, 2),
        decoder_spatio_temporal_scaling=(True,) * 4,
        decoder_inject_noise=(False,) * 5,
        upsample_type=("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
        upsample_residual=(False,) * 4,
        upsample_factor=(2, 2, 1, 2),
    ),
)


def main() -> None:
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")
    sys.stdout.write(f"{PAGE}\n")


@cache
def networks() -> Mapping[str, tuple[Counted, ...]]:
    """All that this library can hold of the released ones, by what they are."""
    groups = {"denoisers": DENOISERS, "text encoders": ENCODERS, "image encoders": VISION, "VAEs": VAES}
    return {title: tuple(counted(released) for released in group) for title, group in groups.items()}


def table() -> str:
    """The lines of the table in Markdown."""
    lines = [f"| part | parameters | {' | '.join(COLUMNS)} |", "|---|---|" + "---|" * len(COLUMNS)]
    for title, group in networks().items():
        lines.append(f"| **{title}** | |{' |' * len(COLUMNS)}")
        lines += [_row(found) for found in group]
    return "\n".join(lines)


def _row(found: Counted) -> str:
    if found.fixed:
        cells = [_gb(found.bytes(found.fixed)), *[""] * (len(COLUMNS) - 1)]
    else:
        cells = [_gb(found.bytes(column)) for column in COLUMNS]
    about = "about " if found.is_inferred else ""
    return f"| {found.title} | {about}{_count(found.parameters)} | {' | '.join(cells)} |"


def _gb(bytes: int) -> str:
    return f"{bytes / 1e9:.0f}" if bytes >= 100e9 else f"{bytes / 1e9:.1f}" if bytes >= 1e9 else f"{bytes / 1e9:.2f}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.0f} M"


def counted(released: Released) -> Counted:
    """The network that this library builds for a released one. Raises LookupError where no family recognises it."""
    family, part, config, name = _in_this_library(_header(released))
    shapes = [tuple(weight.shape) for weight in build(part, config, name).state_dict().values()]
    matrices = sum(math.prod(shape) for shape in shapes if len(shape) > 1)
    return Counted(
        title=released.title,
        family=family,
        matrices=matrices,
        vectors=sum(math.prod(shape) for shape in shapes) - matrices,
        fixed=part.dtype or "",
        is_inferred=released.is_inferred,
    )


def _header(released: Released) -> Header:
    """What a folder of diffusers or transformers with these networks would show."""
    tensors: dict[str, TensorInfo] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    for network in (released, *released.beside):
        module, configs[network.part] = _published(network)
        begin = f"{network.part}/" if network.part else ""
        begin += network.prefix
        shapes = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
        for name, shape in {**shapes, **network.more}.items():
            if not name.endswith(LOOKED_AT):
                tensors[begin + name] = TensorInfo("BF16", shape, 2 * math.prod(shape), "", 0)
    return Header(Path(released.title), "diffusers", tensors, {}, 0, configs)


def _published(network: Released) -> tuple[torch.nn.Module, Mapping[str, Any]]:
    kind = getattr(import_module(network.library), network.name)
    with torch.device("meta"):
        if network.library.startswith("diffusers"):
            module = kind(**network.arguments)
            return module, {**module.config, "_class_name": network.name}
        config = kind.config_class(**network.arguments)
        return kind(config), {**config.to_dict(), "architectures": [network.name]}


def _in_this_library(header: Header) -> tuple[str, Part, Config, str]:
    """Who recognises it, the part and its config."""
    for recogniser, name in ((recognise, "denoiser"), (recognise_vae, "vae")):
        known = recogniser(header)
        if known is not None:
            return known[0].name, known[0].parts[name], known[1].config, name
    for family, name in ((PHOTOMAKER, "identity"), (CLIP_VISION, "vision")):
        seen = family.recognise(header)
        if seen is not None:
            return family.name, family.parts[name], seen.config, name
    for find in FINDERS:
        encoder = find(header)
        if encoder is not None:
            name = f"text.{encoder[0]}"
            part = next(family.parts[name] for family in FAMILIES if name in family.parts)
            return name, part, Config({name: encoder[1].config}), name
    raise LookupError(f"no family of this library recognises {header.path}")


if __name__ == "__main__":
    main()
