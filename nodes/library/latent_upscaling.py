"""Latents enlarged by a network."""

from typing import Annotated, Any

from graphflow import Choice, GraphFlowError, Latent, Problem, Settings, Wire, node

from ..devices.environment import numerics
from ..families.latent_upscalers import FOLDER, check_upsampler
from ..limits import check_latent
from ..model.pair import AUDIO
from ..model.wires import VaeWire
from .loaders import folders
from .ltx import check_vae

LatentUpscaler = Annotated[Any, Wire("LATENT_UPSCALE_MODEL")]


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(FOLDER)


def _digest(settings: Settings, model_name: str) -> str:
    return settings.digests.of(folders(settings).find(FOLDER, model_name))


@node(
    "LatentUpscaleModelLoader",
    category="loaders",
    display_name="Load Latent Upscale Model",
    version="1",
    outside=_digest,
    check=check_upsampler,
)
def latent_upscale_model_loader(
    settings: Settings, model_name: Annotated[str, Choice(_names, "models/latent_upscale_models")]
) -> LatentUpscaler:
    """Take a network that enlarges latents out of a file: the upscalers of LTX-Video, in space or in time."""
    from ..families.latent_upscalers import open_upsampler

    return open_upsampler(folders(settings).find(FOLDER, model_name), settings)


@node(
    "LTXVLatentUpsampler",
    category="latent/video",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def ltxv_latent_upsampler(settings: Settings, samples: Latent, upscale_model: LatentUpscaler, vae: VaeWire) -> Latent:
    """Enlarge a video of LTX-Video or LTX-2: twice as many rows and columns, or twice as many frames, as the network
    was made for. The VAE has the statistics of its latents. A noise mask is left out; a sound stays as it is."""
    from ..devices.use import open_device
    from ..families.kits.ltx_vae_network import statistics_of
    from ..families.ltx_upsampler.network import upsampled

    check_vae(vae)
    x = samples["samples"]
    wanted = upscale_model.config.in_channels
    if x.dim() != 5 or x.shape[1] != wanted:
        found = f"the latent has the shape {list(x.shape)}, this network takes [batch, {wanted}, frames, rows, columns]"
        raise _refused("wrong_latent", found, "samples", "give it a latent of LTX-Video")
    config = upscale_model.config
    in_space = config.get("rational_spatial_scale", 2) if config.spatial_upsample else 1
    factors = (2 if config.temporal_upsample else 1, in_space, in_space)
    check_latent((*x.shape[:2], *(round(side * factor) for side, factor in zip(x.shape[2:], factors, strict=True))))
    device = open_device(settings)
    with device.use(vae, "vae") as part:
        statistics = statistics_of(part.module)
    with device.use(upscale_model, "upsampler") as part:
        larger = device.run(upsampled, part.module, statistics, x)
    return {"samples": larger, **({AUDIO: samples[AUDIO]} if AUDIO in samples else {})}


def _refused(code: str, message: str, input: str, hint: str) -> GraphFlowError:
    return GraphFlowError([Problem(code, message, input=input, hint=hint)])
