"""Image encoders: the vision side of CLIP (ViT-L, H, bigG; arXiv 2103.00020) and SigLIP (arXiv 2303.15343).

What they give of an image steers denoisers: FLUX.1 Redux, IP-Adapters, SDXL's pooled text. Layouts: `transformers` and
`openclip` (`visual.`, where q, k and v are one tensor and the projection is transposed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...files.convert import Table, TensorPlace
from ...files.header import Header
from ...model.config import Config
from ...model.family import Family, Found, Part

__all__ = ["CLIP_VISION", "transformers_config"]

Shape = tuple[int, ...]
HEADS = 16
"""Of all published encoders."""
VIDEO = "conditioner.embedders.0.open_clip.model.visual."
"""In checkpoints of Stable Video Diffusion."""
PREFIXES = ("", "visual.", "embedder.model.visual.", VIDEO)
FOLDER = "image_encoder/"
"""Of a diffusers folder."""
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and deviation of the pixels that the encoders were trained on."""


def _recognise(header: Header) -> Found | None:
    shapes: Mapping[str, Shape] = {name: info.shape for name, info in header.tensors.items()}
    for prefix in PREFIXES:
        if f"{prefix}transformer.resblocks.0.attn.in_proj_weight" in shapes and f"{prefix}conv1.weight" in shapes:
            config = _openclip_config(shapes, prefix)
            return Found(config, {"vision": ("openclip", prefix)}, _variant(config))
    for prefix in ("", FOLDER):
        own = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
        if "vision_model.embeddings.patch_embedding.weight" in own:
            config = transformers_config(own)
            return Found(config, {"vision": (str(config.kind), prefix)}, _variant(config))
    return None


def transformers_config(shapes: Mapping[str, Shape]) -> Config:
    """Of an encoder in the layout of transformers, from the shapes of its tensors. Raises KeyError where some lack."""
    embeddings, layer = "vision_model.embeddings", "vision_model.encoder.layers.{}"
    is_clip = f"{embeddings}.class_embedding" in shapes
    projection = shapes.get("visual_projection.weight")
    return _config(
        "transformers" if is_clip else "siglip",
        shapes[f"{embeddings}.patch_embedding.weight"],
        shapes[f"{embeddings}.position_embedding.weight"][0] - is_clip,
        _count(shapes, layer + ".layer_norm1.weight"),
        shapes[layer.format(0) + ".mlp.fc1.weight"][0],
        projection[0] if projection else 0,
    )


def _openclip_config(shapes: Mapping[str, Shape], prefix: str) -> Config:
    block = prefix + "transformer.resblocks.{}"
    return _config(
        "openclip",
        shapes[f"{prefix}conv1.weight"],
        shapes[f"{prefix}positional_embedding"][0] - 1,
        _count(shapes, block + ".ln_1.weight"),
        shapes[block.format(0) + ".mlp.c_fc.weight"][0],
        shapes[f"{prefix}proj"][1] if f"{prefix}proj" in shapes else 0,
    )


def _config(kind: str, patch: Shape, places: int, layers: int, inner: int, projection: int) -> Config:
    width, side = patch[0], patch[-1]
    mean, deviation = HALF if kind == "siglip" else OPENAI
    # 24 layers: OpenAI's CLIP-L; those of OpenCLIP have another activation.
    activation = "gelu_pytorch_tanh" if kind == "siglip" else "quick_gelu" if layers <= 24 else "gelu"
    return Config(
        kind=kind,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        image_size=round(places**0.5) * side,
        patch_size=side,
        hidden_act=activation,
        projection_dim=projection,
        mean=mean,
        deviation=deviation,
    )


def _count(shapes: Mapping[str, Shape], name: str) -> int:
    count = 0
    while name.format(count) in shapes:
        count += 1
    return count


def _variant(config: Config) -> str:
    kinds = {24: "ViT-L", 32: "ViT-H", 48: "ViT-bigG"}
    return "SigLIP" if config.kind == "siglip" else kinds.get(config.num_hidden_layers, "ViT")


def _openclip(config: Config) -> Table:
    width, model = config.hidden_size, "vision_model"
    table: dict[str, TensorPlace | str] = {
        f"{model}.embeddings.class_embedding": TensorPlace("class_embedding"),
        f"{model}.embeddings.patch_embedding": "conv1",
        f"{model}.embeddings.position_embedding.weight": TensorPlace("positional_embedding"),
        f"{model}.pre_layrnorm": "ln_pre",
        f"{model}.post_layernorm": "ln_post",
        "visual_projection.weight": TensorPlace("proj", form="transposed"),
    }
    for layer in range(config.num_hidden_layers):
        module, block = f"{model}.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        table |= {
            f"{module}.layer_norm1": f"{block}.ln_1",
            f"{module}.layer_norm2": f"{block}.ln_2",
            f"{module}.mlp.fc1": f"{block}.mlp.c_fc",
            f"{module}.mlp.fc2": f"{block}.mlp.c_proj",
            f"{module}.self_attn.out_proj": f"{block}.attn.out_proj",
        }
        for third, name in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = (third * width, (third + 1) * width)
            for kind in ("weight", "bias"):
                table[f"{module}.self_attn.{name}.{kind}"] = TensorPlace(f"{block}.attn.in_proj_{kind}", rows)
    return table


LAYOUTS: Mapping[str, Callable[[Config], Table]] = {
    "transformers": lambda config: {"": ""},
    # The module of transformers 5 has no `vision_model.` before its names.
    "siglip": lambda config: {"": "vision_model", "vision_model": "vision_model"},
    "openclip": _openclip,
}


CLIP_VISION = Family(
    name="clip_vision",
    version="1",
    title="CLIP vision",
    recognise=_recognise,
    parts={
        "vision": Part(
            build=f"{__name__}.network:build",
            layouts=LAYOUTS,
            title="image encoder",
            unused=(
                "text_model.*",
                "text_projection*",
                "logit_*",
                "*.position_ids",
                "multi_modal_projector.*",
                "transformer.*",
                "token_embedding.*",
                "positional_embedding",
                "ln_final.*",
            ),
            saved=("openclip", VIDEO),
        )
    },
    network=f"{__name__}.network",
)
