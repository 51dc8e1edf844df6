"""Latents: empty ones, larger ones, noised ones, files.

LATENT is a mapping with `samples`, float32 [B,C,h,w], or [B,C,frames,h,w] of videos, in the unit of the VAE. That of a
video with sound has the LATENT of its sound under `audio` (model/pair.py).
"""

from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Choice, Context, GraphFlowError, Help, Latent, Problem, Range, Seed, Settings, Ui, Upload, node

from ..devices.environment import numerics, output_files
from ..files.prefixes import check_prefix
from ..files.user_files import files_below, files_written, input_digest, input_path, other_folders, save_numbered
from ..limits import check_latent
from ..model.pair import AUDIO
from ..model.wires import ModelWire
from ..resampling import CROPS, METHODS, missing_side, resize
from .widgets import MAX_SIDE, Place8

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.latent import LatentFormat
    from ..model.prediction import Prediction

_Method = Annotated[str, Choice((*METHODS, "bislerp"))]
_Crop = Annotated[str, Choice(CROPS)]
_SD1_SCALE = 0.18215
"""Of Stable Diffusion 1.x: the unit of latents of which nothing states another."""


_SPATIAL = "downscale_ratio_spacial"  # ComfyUI's name
"""Pixels of a cell of an empty latent: a model with other cells takes it in its own (see samplers/start.py)."""


@node("EmptyLatentImage", category="latent", display_name="Empty Latent Image", version="2")
def empty_latent_image(
    width: Annotated[int, Range(16, MAX_SIDE, 8)] = 512,
    height: Annotated[int, Range(16, MAX_SIDE, 8)] = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
) -> Latent:
    """A latent of zeros to start from, for any model: a sampler gives it the model's channels and cells.

    `width` and `height` are in pixels; the latent has an eighth of each until then.
    """
    import torch

    check_latent((batch_size, 4, height // 8, width // 8))
    return {"samples": torch.zeros(batch_size, 4, height // 8, width // 8), _SPATIAL: 8}


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
    x, cell = samples["samples"], int(samples.get(_SPATIAL) or 8)
    width, height = (max(64, side) if side else 0 for side in (width, height))
    width, height = (max(64, side) for side in missing_side(width, height, x.shape[-1] * cell, x.shape[-2] * cell))
    return {**samples, "samples": _resized(x, width // cell, height // cell, upscale_method, crop)}


@node("LatentUpscaleBy", category="latent", display_name="Upscale Latent By", version="1", environment=numerics)
def latent_upscale_by(
    samples: Latent, upscale_method: _Method, scale_by: Annotated[float, Range(0.01, 8.0, 0.01)] = 1.5
) -> Latent:
    """Resample a latent by a factor."""
    x = samples["samples"]
    width, height = max(1, round(x.shape[-1] * scale_by)), max(1, round(x.shape[-2] * scale_by))
    return {**samples, "samples": _resized(x, width, height, upscale_method)}


def _resized(x: "Tensor", width: int, height: int, method: str, crop: str = "disabled") -> "Tensor":
    """[B,C,h,w], or [B,C,frames,h,w], whose frames are resampled one by one."""
    if x.dim() == 4:
        return resize(x, width, height, method, crop)
    frames = resize(x.movedim(2, 1).flatten(0, 1), width, height, method, crop)
    return frames.view(len(x), -1, *frames.shape[1:]).movedim(1, 2)


@node(
    "GraphFlowAddNoise",
    category="latent",
    display_name="Add Noise (Forward Process)",
    version="3",
    environment=numerics,
)
def add_noise(
    latent: Latent,
    seed: Annotated[int, Range(0, 2**64 - 1), Seed()] = 0,
    timestep: Annotated[int, Range(0, 999)] = 500,
    model: Annotated[ModelWire | None, Help("the model whose latents these are: it states their unit")] = None,
) -> Latent:
    """The forward process in closed form: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise (DDPM, arXiv 2006.11239, eq. 4);
    for a flow model x_t = (1 - t) x_0 + t noise at the level that it has at this share of its 1000 timesteps.

    The noise has unit variance in the unit of the model; without one, in that of Stable Diffusion 1.x.
    """
    from ..samplers.forward import at_levels
    from ..samplers.noise import prepare_noise

    format, prediction = unit_of(model)
    x0 = format.into(latent["samples"])
    noise = prepare_noise(x0.shape, seed, batch_index=latent.get("batch_index"))
    (noised,) = at_levels(x0, noise, prediction, [timestep])
    return {**latent, "samples": format.out(noised)}


def unit_of(model: Any) -> "tuple[LatentFormat, Prediction]":
    """The unit and the process of a MODEL, or those of Stable Diffusion 1.x."""
    from ..model.latent import LatentFormat
    from ..model.prediction import Epsilon

    return (LatentFormat(4, scale=_SD1_SCALE), Epsilon()) if model is None else (model.latent, model.prediction)


def _latent_files(settings: Settings) -> list[str]:
    return files_below(settings.input_dir, (".latent",))


_InputLatent = Annotated[str, Choice(_latent_files, "input", other_folders((".latent",))), Upload()]


def _latent_digest(settings: Settings, latent: str) -> str:
    return input_digest(settings, latent)


@node(
    "SaveLatent",
    category="latent",
    display_name="Save Latent",
    version="1",
    output=True,
    effect=files_written,
    environment=output_files,
    check=check_prefix,
)
def save_latent(samples: Latent, context: Context, filename_prefix: str = "latents/ComfyUI") -> Ui[None]:
    """Write a latent as safetensors (`latent_tensor`) into the output folder, with the workflow in its metadata."""
    import torch
    from safetensors.torch import save

    if AUDIO in samples:
        message = "the latent has a sound beside its video, and a .latent file holds one of the two"
        hint = "take it apart with LTXVSeparateAVLatent, and save both"
        raise GraphFlowError([Problem("not_for_sound", message, input="samples", hint=hint)])
    tensors = {"latent_tensor": samples["samples"].contiguous(), "latent_format_version_0": torch.tensor([])}
    folder = context.settings.output_dir
    saved = save_numbered([save(tensors, context.metadata())], context, folder, filename_prefix, ".latent", "output")
    return Ui({"latents": saved})


@node("LoadLatent", category="latent", display_name="Load Latent", version="1", outside=_latent_digest)
def load_latent(settings: Settings, latent: _InputLatent) -> Latent:
    """Read a latent of the input folder that SaveLatent has written."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Any] = load_file(input_path(settings, latent))
    except (OSError, SafetensorError) as error:
        raise GraphFlowError(
            [Problem("unreadable_latent", f"{latent} cannot be read: {error}", input="latent")]
        ) from None
    if "latent_tensor" not in found:
        names = ", ".join(map(repr, sorted(found)[:6])) or "nothing"
        raise GraphFlowError(
            [
                Problem(
                    "not_a_latent",
                    f"{latent} holds no `latent_tensor`, but {names}",
                    input="latent",
                    hint="a .latent file is one that SaveLatent has written",
                )
            ]
        )
    # Files without the version mark are older than all families but one, and hold latents in the unit of its denoiser.
    scale = 1.0 if "latent_format_version_0" in found else 1.0 / _SD1_SCALE
    return {"samples": found["latent_tensor"].float() * scale}
