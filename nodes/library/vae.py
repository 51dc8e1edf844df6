"""Between images and latents."""

from graphflow import Image, Latent, Settings, node

from ..devices.environment import numerics
from ..limits import check_pixels
from ..model.wires import VaeWire


@node(
    "VAEDecode",
    category="latent",
    display_name="VAE Decode",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def vae_decode(settings: Settings, samples: Latent, vae: VaeWire) -> Image:
    """Latent to images, float32 [B,H,W,3] in 0..1."""
    from ..devices.use import open_device
    from ..devices.vae import decode

    *_, height, width = samples["samples"].shape
    factor = vae.latent.factor
    check_pixels(factor * width, factor * height, len(samples["samples"]))
    return decode(open_device(settings), vae, samples["samples"])


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
