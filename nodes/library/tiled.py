"""Between large images and latents, tile by tile: a VAE needs memory for a tile at a time, and the seams cannot be
seen."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, cast

from graphflow import Context, Help, Image, Latent, Range, node

from ..devices.environment import numerics
from ..limits import check_pixels
from ..model.wires import VaeWire

if TYPE_CHECKING:
    from torch import Tensor

_Frames = Annotated[int, Range(8, 4096, 4), Help("only for VAEs of videos: frames of a tile")]
_FrameOverlap = Annotated[int, Range(4, 4096, 4), Help("only for VAEs of videos: frames that two tiles share")]
_Overlap = Annotated[int, Range(0, 4096, 32), Help("pixels that two tiles share")]


@node(
    "VAEDecodeTiled",
    category="_for_testing",
    display_name="VAE Decode (Tiled)",
    version="2",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def vae_decode_tiled(
    context: Context,
    samples: Latent,
    vae: VaeWire,
    tile_size: Annotated[int, Range(64, 4096, 32), Help("pixels of a side of a tile")] = 512,
    overlap: _Overlap = 64,
    temporal_size: _Frames = 64,
    temporal_overlap: _FrameOverlap = 8,
) -> Image:
    """Latent to images in tiles, for images that do not fit into the memory of the device as a whole.

    The VAEs of Stable Diffusion, FLUX and their kin go layer by layer: the result is that of the whole, without seams,
    and `overlap` has no effect. For others, three passes with square, wide and tall tiles are blended and averaged. A
    video is decoded with all of its frames at once.
    """
    import torch

    from ..devices.use import open_device
    from ..devices.vae import check_channels, one_at_a_time

    x, factor = samples["samples"], vae.latent.factor
    check_channels(vae, x)
    height, width = x.shape[-2:]
    check_pixels(factor * width, factor * height, len(x))
    tile, shared = _cells(tile_size, overlap, factor)
    device, codec = open_device(context.settings), cast(Any, vae.family.codec)
    with device.use(vae, "vae") as part:
        if _is_exact(codec, part.module):
            return torch.stack(
                [
                    codec.decode_in_tiles(
                        part.module, latent, tile * factor, device.run, _part_of(context, index, len(x))
                    )
                    for index, latent in enumerate(x)
                ]
            )

        def decode(latent: Tensor) -> Tensor:
            """[C,(frames,)h,w] -> [(frames,)3,H,W]"""
            return cast("Tensor", device.run(codec.decode, part.module, latent)).float().cpu().movedim(-1, -3)

        has_frames, latents = vae.latent.axes == 3, list(one_at_a_time(vae, x))
        done = _progress(context, len(latents), height, width, tile, shared, has_frames)
        images = [
            _averaged(decode, latent, tile, shared, Fraction(factor), done, has_frames).movedim(-3, -1)
            for latent in latents
        ]
    return torch.cat([image if image.dim() == 4 else image[None] for image in images]).clamp(0.0, 1.0).contiguous()


@node(
    "VAEEncodeTiled",
    category="_for_testing",
    display_name="VAE Encode (Tiled)",
    version="2",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def vae_encode_tiled(
    context: Context,
    pixels: Image,
    vae: VaeWire,
    tile_size: Annotated[int, Range(64, 4096, 64), Help("pixels of a side of a tile")] = 512,
    overlap: _Overlap = 64,
    temporal_size: _Frames = 64,
    temporal_overlap: _FrameOverlap = 8,
) -> Latent:
    """Images to latent in tiles, for images that do not fit into the memory of the device as a whole, as
    VAEDecodeTiled.

    Sides that are not multiples of a cell are cut.
    """
    import torch

    from ..devices.use import open_device
    from ..devices.vae import whole_cells

    factor = vae.latent.factor
    rows, columns = whole_cells(pixels, factor)
    images = pixels[:, rows, columns, :3].movedim(-1, 1)
    tile, shared = ((side * factor) for side in _cells(tile_size, overlap, factor))
    device, codec = open_device(context.settings), cast(Any, vae.family.codec)
    with device.use(vae, "vae") as part:
        if _is_exact(codec, part.module):
            return {
                "samples": torch.stack(
                    [
                        codec.encode_in_tiles(
                            part.module, image, tile, device.run, _part_of(context, index, len(images))
                        )
                        for index, image in enumerate(images.movedim(1, -1))
                    ]
                )
            }

        def encode(image: Tensor) -> Tensor:
            """[3,H,W] -> [C,h,w]"""
            return cast("Tensor", device.run(codec.encode, part.module, image.movedim(0, -1))).float().cpu()

        has_frames = vae.latent.axes == 3
        done = _progress(context, len(images), images.shape[2], images.shape[3], tile, shared, has_frames)
        latents = [_averaged(encode, image, tile, shared, Fraction(1, factor), done, has_frames) for image in images]
    return {"samples": torch.stack(latents)}


def _is_exact(codec: Any, module: Any) -> bool:
    """Whether the kind of VAE has a way to go layer by layer, and it knows all layers of this one."""
    return hasattr(codec, "fits_exactly") and bool(codec.fits_exactly(module))


def _part_of(context: Context, index: int, count: int) -> Callable[[int, int], None]:
    """Progress of one of several."""
    return lambda step, total: context.progress(index * total + step, count * total)


def _cells(tile_size: int, overlap: int, factor: int) -> tuple[int, int]:
    """(side of a tile, overlap) in cells of a latent; a small tile shares a quarter of itself."""
    overlap = tile_size // 4 if tile_size < 4 * overlap else overlap
    return max(1, tile_size // factor), overlap // factor


def _shapes(tile: int, overlap: int, has_frames: bool) -> list[tuple[int, int]]:
    """Square, wide and tall; of VAEs of videos square alone."""
    if has_frames:
        return [(tile, tile)]
    return [(tile, tile), (max(overlap + 1, tile // 2), 2 * tile), (2 * tile, max(overlap + 1, tile // 2))]


def _averaged(
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    tile: int,
    overlap: int,
    scale: Fraction,
    done: Callable[[], None],
    has_frames: bool,
) -> Tensor:
    import torch

    from ..tiles import in_tiles

    shapes = _shapes(tile, overlap, has_frames)
    return torch.stack([in_tiles(call, x, shape, overlap, scale, done, cut=has_frames) for shape in shapes]).mean(0)


def _progress(
    context: Context, count: int, height: int, width: int, tile: int, overlap: int, has_frames: bool
) -> Callable[[], None]:
    """To be called after each tile; raises Cancelled where the run is to stop."""
    from ..tiles import tile_count

    shapes = _shapes(tile, overlap, has_frames)
    total = count * sum(tile_count(height, width, shape, overlap, cut=has_frames) for shape in shapes)
    step = 0

    def done() -> None:
        nonlocal step
        step += 1
        context.progress(step, total)

    return done
