"""Latents: empty ones, larger ones, noised ones, files. LATENT is a mapping with `samples` float32 [B,C,H/8,W/8]."""

from typing import Annotated, Any

from graphflow import Choice, Context, Help, Latent, ModelHandle, Range, Seed, Settings, Ui, Upload, node

from ..devices.environment import numerics, output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_below, files_written, input_digest, input_path, other_folders, save_numbered
from ..limits import check_latent
from .scaling import CROPS, METHODS, missing_side, resize
from .widgets import MAX_SIDE, Place8

_Method = Annotated[str, Choice((*METHODS, "bislerp"))]
_Crop = Annotated[str, Choice(CROPS)]


@node("EmptyLatentImage", category="latent", display_name="Empty Latent Image", version="1")
def empty_latent_image(
    width: Annotated[int, Range(16, MAX_SIDE, 8)] = 512,
    height: Annotated[int, Range(16, MAX_SIDE, 8)] = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> Latent:
    """A latent of zeros to start from. `width` and `height` are in pixels; a latent has an eighth of each."""
    import torch

    check_latent((batch_size, 4, height // 8, width // 8))
    return {"samples": torch.zeros(batch_size, 4, height // 8, width // 8)}


@node("LatentUpscale", category="latent", display_name="Upscale Latent", version="2", environment=numerics)
def latent_upscale(
    samples: Latent,
    upscale_method: _Method,
    width: Place8 = 512,
    height: Place8 = 512,
    crop: _Crop = "disabled",
) -> Latent:
    """Resample a latent to a size in pixels; a side of 0 keeps the proportions, both 0 leave it as it is."""
    if width == 0 and height == 0:
        return samples
    x = samples["samples"]
    width, height = (max(64, side) if side else 0 for side in (width, height))
    width, height = (max(64, side) for side in missing_side(width, height, x.shape[-1] * 8, x.shape[-2] * 8))
    return {**samples, "samples": resize(x, width // 8, height // 8, upscale_method, crop)}


@node("LatentUpscaleBy", category="latent", display_name="Upscale Latent By", version="1", environment=numerics)
def latent_upscale_by(
    samples: Latent, upscale_method: _Method, scale_by: Annotated[float, Range(0.01, 8.0, 0.01)] = 1.5
) -> Latent:
    """Resample a latent by a factor."""
    x = samples["samples"]
    width, height = max(1, round(x.shape[-1] * scale_by)), max(1, round(x.shape[-2] * scale_by))
    return {**samples, "samples": resize(x, width, height, upscale_method)}


@node(
    "GraphFlowAddNoise",
    category="latent",
    display_name="Add Noise (Forward Process)",
    version="2",
    environment=numerics,
)
def add_noise(
    latent: Latent,
    seed: Annotated[int, Range(0, 2**64 - 1), Seed()] = 0,
    timestep: Annotated[int, Range(0, 999)] = 500,
    model: Annotated[ModelHandle | None, Help("the model whose latents these are: it states their unit")] = None,
) -> Latent:
    """The forward process in closed form: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise (DDPM, arXiv 2006.11239, eq. 4).

    The noise has unit variance in the unit of the model; without one, in that of Stable Diffusion 1.x.
    """
    from ..families.latent_format import latent_scale
    from ..model.levels import Discrete
    from ..samplers.noise import prepare_noise, q_sample

    scale = latent_scale(model.source if model is not None else None)
    x0 = latent["samples"].float() * scale
    noise = prepare_noise(x0.shape, seed, batch_index=latent.get("batch_index"))
    return {**latent, "samples": q_sample(x0, noise, timestep, Discrete().alphas_cumprod()) / scale}


def _latent_files(settings: Settings) -> list[str]:
    return files_below(settings.input_dir, (".latent",))


_InputLatent = Annotated[str, Choice(_latent_files, "input", other_folders((".latent",))), Upload()]


def _latent_digest(settings: Settings, latent: str) -> str:
    return input_digest(settings, latent)


@node("SaveLatent", category="latent", display_name="Save Latent", version="1", output=True, effect=files_written,
      environment=output_files, check=check_prefix)  # fmt: skip
def save_latent(samples: Latent, context: Context, filename_prefix: str = "latents/ComfyUI") -> Ui:
    """Write a latent as safetensors (`latent_tensor`) into the output folder, with the workflow in its metadata."""
    import torch
    from safetensors.torch import save

    tensors = {"latent_tensor": samples["samples"].contiguous(), "latent_format_version_0": torch.tensor([])}
    folder = context.settings.output_dir
    saved = save_numbered([save(tensors, context.metadata())], context, folder, filename_prefix, ".latent", "output")
    return Ui({"latents": saved})


@node("LoadLatent", category="latent", display_name="Load Latent", version="1", outside=_latent_digest)
def load_latent(settings: Settings, latent: _InputLatent) -> Latent:
    """Read a latent of the input folder that SaveLatent has written."""
    from safetensors.torch import load_file

    from ..families.latent_format import latent_scale

    found: dict[str, Any] = load_file(input_path(settings, latent))
    # Files without the version mark are older and hold latents in the unit of the U-Net.
    scale = 1.0 if "latent_format_version_0" in found else 1.0 / latent_scale(None)
    return {"samples": found["latent_tensor"].float() * scale}
