"""Nodes that mix two models of one family with a share of the first for each block. Nothing is loaded.

Their inputs have the names of the blocks in checkpoints (`input_blocks.0.`), which no parameter of a function can have.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from graphflow import Range, node

from ..model.wires import ModelWire

_Ratio = Annotated[float, Range(0.0, 1.0, 0.01)]


def _numbered(name: str, count: int, end: str = ".") -> list[str]:
    return [f"{name}.{number}{end}" for number in range(count)]


def _unet(blocks: int, end: str) -> list[str]:
    parts = (("input_blocks", blocks), ("middle_block", 3), ("output_blocks", blocks))
    return ["time_embed.", "label_emb.", *(one for name, count in parts for one in _numbered(name, count, end)), "out."]


def _sd3(blocks: int) -> list[str]:
    embedders = ["pos_embed.", "x_embedder.", "context_embedder.", "y_embedder.", "t_embedder."]
    return [*embedders, *_numbered("joint_blocks", blocks), "final_layer."]


def _merge(name: str, title: str, blocks: Sequence[str]) -> Callable[..., Any]:
    @node(name, category="advanced/model_merging/model_specific", version="1")
    def merge(model1: ModelWire, model2: ModelWire, **shares: _Ratio) -> ModelWire:
        from ..patches.weights import MixByName, check_alike, check_names

        check_alike(model1, model2, "model2")
        check_names(model1, shares, "model1")
        return model1.with_patch(MixByName(model2, tuple((block, shares.get(block, 1.0)) for block in blocks)))

    found: Any = merge
    made = found.node_type
    inputs = {block: replace(made.extra, name=block, default=1.0) for block in blocks}
    help = f"Mix two models of {title} with a share of the first for each block; what no input names has the first's."
    found.node_type = replace(made, inputs={**made.inputs, **inputs}, extra=None, help=help)
    return merge


model_merge_sd1 = _merge("ModelMergeSD1", "Stable Diffusion 1.x", _unet(12, "."))
model_merge_sd2 = _merge("ModelMergeSD2", "Stable Diffusion 2.x", _unet(12, "."))
model_merge_sdxl = _merge("ModelMergeSDXL", "Stable Diffusion XL", _unet(9, ""))
model_merge_sd3_2b = _merge("ModelMergeSD3_2B", "Stable Diffusion 3 medium", _sd3(24))
model_merge_sd35_large = _merge("ModelMergeSD35_Large", "Stable Diffusion 3.5 large", _sd3(38))
model_merge_flux1 = _merge(
    "ModelMergeFlux1",
    "FLUX.1",
    [
        *("img_in.", "time_in.", "guidance_in", "vector_in.", "txt_in."),
        *_numbered("double_blocks", 19),
        *_numbered("single_blocks", 38),
        "final_layer.",
    ],
)
model_merge_qwen_image = _merge(
    "ModelMergeQwenImage",
    "Qwen-Image",
    [
        *("pos_embeds.", "img_in.", "txt_norm.", "txt_in.", "time_text_embed."),
        *_numbered("transformer_blocks", 60),
        "proj_out.",
    ],
)
model_merge_ltxv = _merge(
    "ModelMergeLTXV",
    "LTX-Video",
    [
        *("patchify_proj.", "adaln_single.", "caption_projection."),
        *_numbered("transformer_blocks", 28),
        *("scale_shift_table", "proj_out."),
    ],
)
model_merge_wan21 = _merge(
    "ModelMergeWAN2_1",
    "Wan 2.1 and 2.2",
    [
        *("patch_embedding.", "time_embedding.", "time_projection.", "text_embedding.", "img_emb."),
        *_numbered("blocks", 40),
        "head.",
    ],
)
