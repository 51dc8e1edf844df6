"""Between images and latents."""

from graphflow import Context, Image, Latent, Settings, node

from ..devices.environment import drawing, numerics
from ..limits import check_pixels
from ..model.wires import VaeWire
from .tiled import vae_decode_tiled


@node(
    "VAEDecode",
    category="latent",
    display_name="VAE Decode",
    version="1",
    lane="device",
    in_turns=True,
    environment=drawing,
)
def vae_decode(context: Context, samples: Latent, vae: VaeWire) -> Image:
    """Latent to images, float32 [B,H,W,3] in 0..1. Where the memory of the device is too short for the whole, it goes
    tile by tile and reports it, and the result is not cached: its last bits may be others."""
    import torch

    from ..devices.use import open_device
    from ..devices.vae import decode
    from ..samplers.looks import looks

    count, _, *frames, height, width = samples["samples"].shape
    factor = vae.latent.factor
    shown = (frames[0] - 1) * vae.latent.time_factor + 1 if frames else 1
    check_pixels(factor * width, factor * height, count * shown)
    try:
        images = decode(open_device(context.settings), vae, samples["samples"], may_compile=True)
        looks().learn(samples["samples"], images)
        return images
    except (torch.OutOfMemoryError, MemoryError):
        context.say("the memory is too short for the whole image: it is decoded in tiles, as VAE Decode (Tiled) does")
        context.do_not_cache()
    return vae_decode_tiled(context, samples, vae)


@node(
    "VAEEncode",
    category="latent",
    display_name="VAE Encode",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def vae_encode(settings: Settings, pixels: Image, vae: VaeWire) -> Latent:
    """Images to latent; sides that are not multiples of a cell of the latent (8 pixels, mostly) are cut, evenly on both
    sides."""
    from ..devices.use import open_device
    from ..devices.vae import encode_cut

    return {"samples": encode_cut(open_device(settings), vae, pixels)}
