"""Nodes that change how a MODEL attends, or lead it away from what it answers with a part of it left out. Nothing is
loaded."""

from typing import Annotated

from graphflow import GraphFlowError, Help, Problem, Range, node

from ..model.wires import ClipWire, ModelWire

_Blocks = Annotated[str, Help("numbers of blocks from 0, separated by commas")]
_Share = Annotated[float, Range(0.0, 1.0, 0.001), Help("a share of the sampling: 0 is the beginning, 1 the end")]
_Scale = Annotated[float, Range(0.0, 10.0, 0.1), Help("how far away it leads; 0 leaves all as it is")]


@node("SelfAttentionGuidance", category="_for_testing", display_name="Self-Attention Guidance", version="1")
def self_attention_guidance(
    model: ModelWire,
    scale: Annotated[float, Range(-2.0, 5.0, 0.01)] = 0.5,
    blur_sigma: Annotated[float, Range(0.0, 10.0, 0.1), Help("in cells of the latent")] = 2.0,
) -> ModelWire:
    """Lead away from what the model makes of an image that is blurred where it looks (arXiv 2210.00939).

    It asks the model once more at each step, and needs a negative: at cfg 1 it does nothing.
    """
    from ..patches.attention import check_port
    from ..patches.self_attention import SelfAttention

    patch = SelfAttention(scale, blur_sigma)
    check_port(model, patch.where, "SelfAttentionGuidance")
    return model.with_patch(patch)


@node("SkipLayerGuidanceDiT", category="advanced/guidance", version="1")
def skip_layer_guidance_dit(
    model: ModelWire,
    double_layers: _Blocks = "7, 8, 9",
    single_layers: _Blocks = "7, 8, 9",
    scale: _Scale = 3.0,
    start_percent: _Share = 0.01,
    end_percent: _Share = 0.15,
    rescaling_scale: Annotated[
        float, Range(0.0, 10.0, 0.01), Help("how much of the spread of the answer with the prompt is kept")
    ] = 0.0,
) -> ModelWire:
    """Lead away from what a transformer answers without some of its blocks: fewer wrong hands and limbs.

    `double_layers` are blocks with streams of text and image, `single_layers` those with one stream.
    """
    from ..patches.skip_layers import SkipLayers, blocks_of

    names = blocks_of(model, double_layers, single_layers, ("double_layers", "single_layers"))
    return model.with_patch(SkipLayers(names, scale, (start_percent, end_percent), rescaling_scale))


@node("SkipLayerGuidanceSD3", category="advanced/guidance", version="1")
def skip_layer_guidance_sd3(
    model: ModelWire,
    layers: _Blocks = "7, 8, 9",
    scale: _Scale = 3.0,
    start_percent: _Share = 0.01,
    end_percent: _Share = 0.15,
) -> ModelWire:
    """The same for Stable Diffusion 3 and 3.5, by the numbers of its joint blocks."""
    from ..patches.skip_layers import SkipLayers, blocks_of

    names = blocks_of(model, layers, inputs=("layers", ""))
    return model.with_patch(SkipLayers(names, scale, (start_percent, end_percent)))


@node("SkipLayerGuidanceDiTSimple", category="advanced/guidance", version="1")
def skip_layer_guidance_dit_simple(
    model: ModelWire,
    double_layers: _Blocks = "7, 8, 9",
    single_layers: _Blocks = "7, 8, 9",
    start_percent: _Share = 0.0,
    end_percent: _Share = 1.0,
) -> ModelWire:
    """Ask the negative of the model without some of its blocks: nothing is computed besides. At cfg 1 it does
    nothing."""
    from ..patches.skip_layers import SkipLayersOfNegative, blocks_of

    names = blocks_of(model, double_layers, single_layers, ("double_layers", "single_layers"))
    return model.with_patch(SkipLayersOfNegative(names, (start_percent, end_percent)))


@node("NAGuidance", category="advanced/guidance", display_name="Normalized Attention Guidance", version="1")
def na_guidance(
    model: ModelWire,
    nag_scale: Annotated[float, Range(0.0, 50.0, 0.1), Help("how far the negative is led away from")] = 5.0,
    nag_alpha: Annotated[float, Range(0.0, 1.0, 0.01), Help("the share of what is led away; 0 is without it")] = 0.5,
    nag_tau: Annotated[float, Range(1.0, 10.0, 0.01), Help("how many times longer it may become")] = 1.5,
) -> ModelWire:
    """Lead away from the negative inside self-attention (NAG, arXiv 2505.21179): also at cfg 1, for models that were
    distilled to need no guidance. It asks the model about the negative once more at each step."""
    from ..patches.normalized_attention import NormalizedAttention, NormalizedAttentionGuidance, check_self_attention

    check_self_attention(model)
    return model.with_patch(NormalizedAttentionGuidance(NormalizedAttention(nag_scale, nag_alpha, nag_tau)))


@node("HyperTile", category="model_patches/unet", version="1")
def hyper_tile(
    model: ModelWire,
    tile_size: Annotated[int, Range(1, 2048), Help("the least side of a tile, in pixels")] = 256,
    swap_size: Annotated[int, Range(1, 128), Help("how many sizes of tiles the layers choose from")] = 2,
    max_depth: Annotated[int, Range(0, 10), Help("the deepest level of the U-Net with tiles")] = 0,
    scale_depth: Annotated[bool, Help("tiles of deeper levels cover more of the image")] = False,
) -> ModelWire:
    """Self-attention within tiles: large images cost less.

    Each layer has tiles of its own size, by its name and not by chance, so equal runs give equal images.
    """
    from ..patches.freeu import check_unet
    from ..patches.hypertile import HyperTile

    check_unet(model, "HyperTile")
    cells = max(32, tile_size) // model.latent.factor
    return model.with_patch(HyperTile(cells, swap_size, max_depth, scale_depth))


@node("TomePatchModel", category="model_patches/unet", version="1")
def tome_patch_model(
    model: ModelWire, ratio: Annotated[float, Range(0.0, 1.0, 0.01), Help("the share of tokens, at most 0.75")] = 0.3
) -> ModelWire:
    """Merge tokens that are alike before self-attention at full resolution: faster, and a little less detail."""
    from ..patches.freeu import check_unet
    from ..patches.token_merging import TokenMerging

    check_unet(model, "TomePatchModel")
    if not model.config.denoiser.down_block_types[0].startswith("CrossAttn"):
        raise GraphFlowError(
            [
                Problem(
                    "no_port",
                    f"TomePatchModel merges tokens at full resolution, where {model.family.title} has no attention",
                    input="model",
                    hint="leave the node out: it would change nothing",
                )
            ]
        )
    return model.with_patch(TokenMerging(ratio))


_Factor = Annotated[float, Range(0.0, 10.0, 0.01)]


@node("UNetSelfAttentionMultiply", category="_for_testing/attention_experiments", version="1")
def unet_self_attention_multiply(
    model: ModelWire, q: _Factor = 1.0, k: _Factor = 1.0, v: _Factor = 1.0, out: _Factor = 1.0
) -> ModelWire:
    """Multiply the projections of a U-Net's self-attention: queries, keys, values, and the answer."""
    from ..patches.attention_weights import SELF, ScaledAttention
    from ..patches.freeu import check_unet

    check_unet(model, "UNetSelfAttentionMultiply")
    return model.with_patch(ScaledAttention(SELF, (q, k, v, out)))


@node("UNetCrossAttentionMultiply", category="_for_testing/attention_experiments", version="1")
def unet_cross_attention_multiply(
    model: ModelWire, q: _Factor = 1.0, k: _Factor = 1.0, v: _Factor = 1.0, out: _Factor = 1.0
) -> ModelWire:
    """The same for the attention to the text."""
    from ..patches.attention_weights import CROSS, ScaledAttention
    from ..patches.freeu import check_unet

    check_unet(model, "UNetCrossAttentionMultiply")
    return model.with_patch(ScaledAttention(CROSS, (q, k, v, out)))


@node("CLIPAttentionMultiply", category="_for_testing/attention_experiments", version="1")
def clip_attention_multiply(
    clip: ClipWire, q: _Factor = 1.0, k: _Factor = 1.0, v: _Factor = 1.0, out: _Factor = 1.0
) -> ClipWire:
    """The same for the self-attention of CLIP's text encoders."""
    from ..patches.attention_weights import TEXT, ScaledAttention

    return clip.with_patch(ScaledAttention(TEXT, (q, k, v, out)))


_Scale = Annotated[float, Range(0.0, 100.0, 0.1)]
_Offset = Annotated[float, Range(-256.0, 256.0, 0.1)]


@node("ScaleROPE", category="advanced/model_patches", display_name="ScaleROPE", version="1")
def scale_rope(
    model: ModelWire,
    scale_x: _Scale = 1.0,
    shift_x: _Offset = 0.0,
    scale_y: _Scale = 1.0,
    shift_y: _Offset = 0.0,
    scale_t: _Scale = 1.0,
    shift_t: _Offset = 0.0,
) -> ModelWire:
    """Scale and shift the places of tokens along columns (x), rows (y) and frames (t), for Wan: place * scale + shift.

    ChronoEdit sets its two frames 7 apart (scale_t 7). A second node replaces the first.
    """
    from ..patches.scaled_positions import with_scaled_positions

    return with_scaled_positions(model, ((scale_t, shift_t), (scale_y, shift_y), (scale_x, shift_x)))
