"""Latents laid on each other, mixed, cut and turned; masks that say what a sampler may change.

Places and sizes are in pixels, eight to a latent. Keys of a LATENT other than `samples` are kept.
"""

from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Choice, Image, Latent, Mask, Range, Settings, node

from ..devices.environment import numerics
from ..limits import check_latent
from ..model.wires import VaeWire
from ..resampling import resize
from .batch import repeat_to
from .compositing import composite
from .masks import batch_of
from .transforms import FLIPS, ROTATIONS
from .widgets import MAX_SIDE, Place8, Side

if TYPE_CHECKING:
    from torch import Tensor

_Axis = {"x": -1, "y": -2, "t": -3}


@node("LatentComposite", category="latent", display_name="Latent Composite", version="1")
def latent_composite(
    samples_to: Latent, samples_from: Latent, x: Place8 = 0, y: Place8 = 0, feather: Place8 = 0
) -> Latent:
    """Lay a latent on another, fading over `feather` pixels on the edges that do not lie on the other's edge."""
    import torch

    onto, patch = samples_to["samples"], samples_from["samples"]
    x, y, count = x // 8, y // 8, feather // 8
    part = patch[..., : max(0, onto.shape[-2] - y), : max(0, onto.shape[-1] - x)]
    weight = torch.ones(1, *part.shape[-2:])
    for i in range(count):
        fade = (i + 1) / count
        if y > 0:
            weight[:, i : i + 1] *= fade
        if y + part.shape[-2] < onto.shape[-2]:
            weight[:, part.shape[-2] - 1 - i : part.shape[-2] - i] *= fade
        if x > 0:
            weight[:, :, i : i + 1] *= fade
        if x + part.shape[-1] < onto.shape[-1]:
            weight[:, :, part.shape[-1] - 1 - i : part.shape[-1] - i] *= fade
    return {**samples_to, "samples": composite(onto, part, x, y, weight) if part.numel() else onto}


@node("LatentCompositeMasked", category="latent", version="1", environment=numerics)
def latent_composite_masked(
    destination: Latent,
    source: Latent,
    x: Place8 = 0,
    y: Place8 = 0,
    resize_source: bool = False,
    mask: Mask | None = None,
) -> Latent:
    """Lay a latent on another at a place, where the mask is 1; what sticks out is cut off."""
    onto = composite(destination["samples"], source["samples"], x // 8, y // 8, mask, resize_source)
    return {**destination, "samples": onto}


@node("LatentBlend", category="latent", display_name="Latent Blend", version="2", environment=numerics)
def latent_blend(
    samples1: Latent, samples2: Latent, blend_factor: Annotated[float, Range(0.0, 1.0, 0.01)] = 0.5
) -> Latent:
    """Mix two latents: 1.0 is all of the first, 0.0 all of the second, which is resampled to the first one's size."""
    a, b = samples1["samples"], samples2["samples"]
    if a.shape[-2:] != b.shape[-2:]:
        b = resize(b, a.shape[-1], a.shape[-2], "bicubic", "center")
    return {**samples1, "samples": a * blend_factor + repeat_to(b, len(a)) * (1.0 - blend_factor)}


@node("LatentAdd", category="latent/advanced", version="2", environment=numerics)
def latent_add(samples1: Latent, samples2: Latent) -> Latent:
    """The sum of two latents."""
    return {**samples1, "samples": samples1["samples"] + _like(samples2["samples"], samples1["samples"])}


@node("LatentSubtract", category="latent/advanced", version="2", environment=numerics)
def latent_subtract(samples1: Latent, samples2: Latent) -> Latent:
    """The first latent less the second."""
    return {**samples1, "samples": samples1["samples"] - _like(samples2["samples"], samples1["samples"])}


@node("LatentMultiply", category="latent/advanced", version="1")
def latent_multiply(samples: Latent, multiplier: Annotated[float, Range(-10.0, 10.0, 0.01)] = 1.0) -> Latent:
    """A latent times a number."""
    return {**samples, "samples": samples["samples"] * multiplier}


@node("LatentInterpolate", category="latent/advanced", version="2", environment=numerics)
def latent_interpolate(
    samples1: Latent, samples2: Latent, ratio: Annotated[float, Range(0.0, 1.0, 0.01)] = 1.0
) -> Latent:
    """Mix two latents, directions and lengths of the channel vectors by themselves: 1.0 is all of the first."""
    import torch

    a = samples1["samples"]
    b = _like(samples2["samples"], a)
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    mixed = torch.nan_to_num(a / length_a) * ratio + torch.nan_to_num(b / length_b) * (1.0 - ratio)
    direction = torch.nan_to_num(mixed / mixed.norm(dim=1, keepdim=True))
    return {**samples1, "samples": direction * (length_a * ratio + length_b * (1.0 - ratio))}


@node("LatentBatchSeedBehavior", category="latent/advanced", version="1")
def latent_batch_seed_behavior(
    samples: Latent, seed_behavior: Annotated[str, Choice(("random", "fixed"))] = "fixed"
) -> Latent:
    """Whether the latents of a batch get noise of their own (`random`), or all that of the first (`fixed`)."""
    found = dict(samples)
    first = found.pop("batch_index", [0])[0]
    if seed_behavior == "fixed":
        found["batch_index"] = [first] * len(found["samples"])
    return found


@node("LatentConcat", category="latent/advanced", version="1")
def latent_concat(
    samples1: Latent, samples2: Latent, dim: Annotated[str, Choice(("x", "-x", "y", "-y", "t", "-t"))]
) -> Latent:
    """Put a latent beside another: to the right (`x`), below (`y`), after it in time (`t`); with `-` before it."""
    import torch

    pieces = [samples1["samples"], repeat_to(samples2["samples"], len(samples1["samples"]))]
    check_latent((2, *pieces[0].shape))
    return {**samples1, "samples": torch.cat(pieces[::-1] if dim[0] == "-" else pieces, _Axis[dim[-1]])}


@node("LatentCut", category="latent/advanced", version="1")
def latent_cut(
    samples: Latent,
    dim: Annotated[str, Choice(("x", "y", "t"))],
    index: Annotated[int, Range(-MAX_SIDE, MAX_SIDE, 1)] = 0,
    amount: Side = 1,
) -> Latent:
    """Some columns, rows or frames of a latent, from `index` on (from the end if negative), in steps of the latent."""
    x, axis = samples["samples"], _Axis[dim]
    size = x.shape[axis]
    start = min(index, size - 1) if index >= 0 else max(size + index, 0)
    return {**samples, "samples": x.narrow(axis, start, min(amount, size - start)).clone()}


@node("LatentCutToBatch", category="latent/advanced", version="1")
def latent_cut_to_batch(
    samples: Latent, dim: Annotated[str, Choice(("t", "x", "y"))], slice_size: Annotated[int, Range(1, MAX_SIDE)] = 1
) -> Latent:
    """A latent in slices of some frames, columns or rows, as a batch; what is left over at the end is dropped.

    A latent without frames is not cut by `t`. The layers of Qwen-Image-Layered are frames.
    """
    import torch

    x, axis = samples["samples"], _Axis[dim]
    if x.dim() + axis < 2:
        return samples
    size = min(slice_size, x.shape[axis])
    pieces = [x.narrow(axis, start, size) for start in range(0, x.shape[axis] - size + 1, size)]
    return {**samples, "samples": torch.stack(pieces, dim=1).flatten(0, 1)}


@node("LatentCrop", category="latent/transform", display_name="Crop Latent", version="1")
def latent_crop(
    samples: Latent,
    width: Annotated[int, Range(64, MAX_SIDE, 8)] = 512,
    height: Annotated[int, Range(64, MAX_SIDE, 8)] = 512,
    x: Place8 = 0,
    y: Place8 = 0,
) -> Latent:
    """A rectangle of a latent, as far as it reaches; it starts at least 64 pixels before the far edges."""
    old = samples["samples"]
    left, top = max(0, min(x // 8, old.shape[-1] - 8)), max(0, min(y // 8, old.shape[-2] - 8))
    return {**samples, "samples": old[..., top : top + height // 8, left : left + width // 8].clone()}


@node("LatentFlip", category="latent/transform", display_name="Flip Latent", version="1")
def latent_flip(samples: Latent, flip_method: Annotated[str, Choice(FLIPS)]) -> Latent:
    """A latent mirrored: top to bottom, or left to right."""
    return {**samples, "samples": samples["samples"].flip(-2 if flip_method == FLIPS[0] else -1)}


@node("LatentRotate", category="latent/transform", display_name="Rotate Latent", version="1")
def latent_rotate(samples: Latent, rotation: Annotated[str, Choice(ROTATIONS)]) -> Latent:
    """A latent turned clockwise."""
    return {**samples, "samples": samples["samples"].rot90(ROTATIONS.index(rotation), dims=(-1, -2)).contiguous()}


@node("EmptySD3LatentImage", category="latent/sd3", version="2")
def empty_sd3_latent_image(
    width: Annotated[int, Range(16, MAX_SIDE, 16)] = 1024,
    height: Annotated[int, Range(16, MAX_SIDE, 16)] = 1024,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> Latent:
    """A latent of zeros with the 16 channels of Stable Diffusion 3."""
    import torch

    check_latent((batch_size, 16, height // 8, width // 8))
    return {"samples": torch.zeros(batch_size, 16, height // 8, width // 8), "downscale_ratio_spacial": 8}


@node("EmptyFlux2LatentImage", category="latent", display_name="Empty Flux 2 Latent", version="1")
def empty_flux2_latent_image(
    width: Annotated[int, Range(16, MAX_SIDE, 16)] = 1024,
    height: Annotated[int, Range(16, MAX_SIDE, 16)] = 1024,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> Latent:
    """A latent of zeros with the 128 channels of FLUX.2, a cell for 16 x 16 pixels."""
    import torch

    check_latent((batch_size, 128, height // 16, width // 16))
    return {"samples": torch.zeros(batch_size, 128, height // 16, width // 16), "downscale_ratio_spacial": 16}


@node(
    "EmptyQwenImageLayeredLatentImage",
    category="latent/qwen",
    display_name="Empty Qwen Image Layered Latent",
    version="1",
)
def empty_qwen_image_layered_latent_image(
    width: Annotated[int, Range(16, MAX_SIDE, 16)] = 640,
    height: Annotated[int, Range(16, MAX_SIDE, 16)] = 640,
    layers: Annotated[int, Range(0, MAX_SIDE)] = 3,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> Latent:
    """A latent of zeros for Qwen-Image-Layered: the whole image, and so many layers behind it, along the axis of
    frames."""
    import torch

    shape = (batch_size, 16, layers + 1, height // 8, width // 8)
    check_latent(shape)
    return {"samples": torch.zeros(shape)}


@node("SetLatentNoiseMask", category="latent/inpaint", display_name="Set Latent Noise Mask", version="1")
def set_latent_noise_mask(samples: Latent, mask: Mask) -> Latent:
    """Let a sampler change a latent only where a mask is 1."""
    return {**samples, "noise_mask": batch_of(mask)[:, None]}


@node(
    "VAEEncodeForInpaint",
    category="latent/inpaint",
    display_name="VAE Encode (for Inpainting)",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def vae_encode_for_inpaint(
    settings: Settings, pixels: Image, vae: VaeWire, mask: Mask, grow_mask_by: Annotated[int, Range(0, 64, 1)] = 6
) -> Latent:
    """Images to latents with what the mask covers greyed out first; a sampler then draws it anew.

    The mask is made larger by `grow_mask_by` pixels in all, so that new and old meet softly.
    """
    import math

    from torch.nn import functional as F

    from ..devices.use import open_device
    from ..devices.vae import encode, whole_cells

    rows, columns = whole_cells(pixels, vae.latent.factor)
    cover = resize(batch_of(mask)[:, None], pixels.shape[2], pixels.shape[1], "bilinear")
    cover = cover[..., rows, columns].round()
    image = pixels[:, rows, columns, :3]
    greyed = (image - 0.5) * (1.0 - repeat_to(cover, len(image))).movedim(1, -1) + 0.5
    if grow_mask_by:
        grown = F.max_pool2d(F.pad(cover, [math.ceil((grow_mask_by - 1) / 2)] * 4), grow_mask_by, 1)
        cover = grown[..., : image.shape[1], : image.shape[2]]
    return {"samples": encode(open_device(settings), vae, greyed), "noise_mask": cover}


def _like(x: Any, other: "Tensor") -> "Tensor":
    """In the size and number of another latent."""
    if x.shape[1:] != other.shape[1:]:
        x = resize(x, other.shape[-1], other.shape[-2], "bilinear", "center")
    return repeat_to(x, len(other))
