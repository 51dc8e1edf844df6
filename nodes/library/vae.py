"""Between pictures and latents."""

from graphflow import Image, Latent, Settings, VaeHandle, node

from ..devices.environment import numerics
from ..limits import check_pixels


@node("VAEDecode", category="latent", display_name="VAE Decode", version="1", lane="device", environment=numerics)
def vae_decode(settings: Settings, samples: Latent, vae: VaeHandle) -> Image:
    """Latent to pictures, float32 [B,H,W,3] in 0..1."""
    from ..devices import shared_pool
    from ..families.vae import decode

    check_pixels(8 * samples["samples"].shape[-1], 8 * samples["samples"].shape[-2], len(samples["samples"]))
    return decode(shared_pool(settings.device), vae, samples["samples"])


@node("VAEEncode", category="latent", display_name="VAE Encode", version="1", lane="device", environment=numerics)
def vae_encode(settings: Settings, pixels: Image, vae: VaeHandle) -> Latent:
    """Pictures to latent; sides that are no multiple of 8 are cut, evenly on both sides."""
    from ..devices import shared_pool
    from ..families.vae import encode_cut

    return {"samples": encode_cut(shared_pool(settings.device), vae, pixels)}
