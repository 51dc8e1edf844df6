"""The checks of values on each wire (entry point `graphflow.wires`): kind, axes, channels, number type, finite.

Numbers are looked at where they lie on the CPU; on an accelerator that would wait for it, and samplers and decoders
bring their results to the CPU anyway. Nothing here imports torch: where it is not loaded, no value is a tensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from graphflow import Handle
from graphflow.spi import Check, Misfit, in_words

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CHECKS", "FROM_PYTHON", "audio", "conditioning", "image", "latent", "mask", "sigmas", "video"]

_IMAGE = "an IMAGE, a float tensor [B,H,W,C] in 0..1 with 3 or 4 channels"
_MASK = "a MASK, a float tensor [B,H,W] in 0..1"
_LATENT = "a LATENT, a dict whose `samples` is a float tensor [B,C,h,w] or [B,C,frames,h,w]"
_CONDITIONING = "a CONDITIONING, a list of [embedding, options]: a float tensor [B,T,D] and a dict"
_SIGMAS = "SIGMAS, a float tensor [steps + 1]"
_AUDIO = "an AUDIO, a dict with `waveform`, a float tensor [B,C,T], and `sample_rate`"
_VIDEO = "a VIDEO, a file or a dict with `images` (an IMAGE), `fps` and perhaps `audio`"
_FINITE = "the numbers came up in this node or in what it computes with: a damaged model, a division by 0, float16"


def image(value: Any) -> Misfit | None:
    """float [B,H,W,C], three colours and perhaps an alpha channel, nothing of it empty, all finite."""
    if not _is_tensor(value):
        return Misfit(
            in_words(value), _IMAGE, "a list of images becomes one batch with torch.stack" if _is_list(value) else None
        )
    shape = value.shape
    if len(shape) != 4 or shape[3] not in (3, 4) or 0 in shape:
        return Misfit(shape_of(value), _IMAGE, _image_advice(tuple(shape)))
    if not value.is_floating_point():
        return Misfit(shape_of(value), _IMAGE, "numbers in 0..255 have to be divided by 255")
    return _finite(value, _IMAGE)


def mask(value: Any) -> Misfit | None:
    """float [B,H,W], also [H,W] and [B,1,H,W], which every node here takes as such; all finite."""
    if not _is_tensor(value):
        return Misfit(in_words(value), _MASK)
    shape = value.shape
    if not 2 <= len(shape) <= 4 or 0 in shape or (len(shape) == 4 and shape[1] != 1):
        return Misfit(shape_of(value), _MASK)
    if not value.is_floating_point():
        return Misfit(shape_of(value), _MASK, "use .float(); numbers in 0..255 have to be divided by 255")
    return _finite(value, _MASK)


def latent(value: Any) -> Misfit | None:
    """A mapping whose `samples` is float with 4 or 5 axes, all finite; a `noise_mask` is a float tensor."""
    if not isinstance(value, Mapping):
        return Misfit(
            shape_of(value) if _is_tensor(value) else in_words(value),
            _LATENT,
            'a tensor alone goes as {"samples": tensor}' if _is_tensor(value) else None,
        )
    samples = value.get("samples")
    if not _is_tensor(samples):
        known = ", ".join(map(repr, list(value)[:8])) or "nothing"
        found = (
            f"a dict with {known}"
            if samples is None and "samples" not in value
            else f"a dict whose `samples` is {in_words(samples)}"
        )
        return Misfit(found, _LATENT)
    if samples.dim() not in (4, 5) or 0 in samples.shape or not samples.is_floating_point():
        return Misfit(f"a dict whose `samples` is {shape_of(samples)}", _LATENT)
    noise_mask = value.get("noise_mask")
    if noise_mask is not None and not (
        _is_tensor(noise_mask) and noise_mask.dim() >= 2 and noise_mask.is_floating_point()
    ):
        found = shape_of(noise_mask) if _is_tensor(noise_mask) else in_words(noise_mask)
        return Misfit(f"`noise_mask` is {found}", "a noise mask, a float tensor [B,1,H,W] or [B,H,W]")
    return _finite(samples, _LATENT) or (_finite(noise_mask, "a noise mask") if noise_mask is not None else None)


def conditioning(value: Any) -> Misfit | None:
    """A list of [tensor, dict], at least one; or a tuple of the library's own entries, which were checked when made."""
    if not _is_list(value):
        return Misfit(shape_of(value) if _is_tensor(value) else in_words(value), _CONDITIONING)
    if not value:
        return Misfit("an empty list", _CONDITIONING)
    for entry in value:
        if not _is_list(entry):
            if isinstance(entry, (str, bytes, int, float, Mapping, type(None))) or _is_tensor(entry):
                return Misfit(f"a list with {shape_of(entry) if _is_tensor(entry) else in_words(entry)}", _CONDITIONING)
            continue
        if len(entry) != 2 or not isinstance(entry[1], Mapping):
            kinds = ", ".join(type(part).__name__ for part in entry)
            return Misfit(f"a list with an entry of {len(entry)} parts ({kinds})", _CONDITIONING)
        embedding = entry[0]
        if embedding is None:  # of a model that is asked without text
            continue
        if not (_is_tensor(embedding) and embedding.dim() >= 2 and embedding.is_floating_point()):
            found = shape_of(embedding) if _is_tensor(embedding) else in_words(embedding)
            return Misfit(f"an embedding that is {found}", _CONDITIONING)
        misfit = _finite(embedding, _CONDITIONING)
        if misfit is not None:
            return misfit
    return None


def sigmas(value: Any) -> Misfit | None:
    """float [n], all finite."""
    if not _is_tensor(value):
        return Misfit(in_words(value), _SIGMAS)
    if value.dim() != 1 or not value.is_floating_point():
        return Misfit(shape_of(value), _SIGMAS)
    return _finite(value, _SIGMAS)


def image_of_python(value: Any) -> Any:
    """float32 [B,H,W,C] of an image file's bytes, or of an array or tensor [H,W], [H,W,C] or [B,H,W,C]: uint8, or
    floats in
    0..1. Raises TypeError."""
    import torch

    if isinstance(value, bytes):
        return frames_of(value)[0]
    found = _tensor(value)
    if found is None or found.dim() not in (2, 3, 4):
        raise TypeError(f"found {in_words(value) if found is None else shape_of(found)}, expected {_IMAGE}")
    found = found.to(torch.float32) / 255 if found.dtype == torch.uint8 else found.to(torch.float32)
    if found.dim() == 2:
        found = found[..., None].expand(-1, -1, 3)
    found = found[None] if found.dim() == 3 else found
    return found.expand(*found.shape[:3], 3).contiguous() if found.shape[3] == 1 else found


def mask_of_python(value: Any) -> Any:
    """float32 [B,H,W] of an array or tensor [H,W] or [B,H,W], or of an image: its transparency, or else its brightness.
    Raises TypeError."""
    if isinstance(value, bytes):
        colours, clear = frames_of(value)
        return clear if clear is not None else colours.mean(dim=-1)
    found = _tensor(value)
    if found is not None and found.dim() in (3, 4) and found.shape[-1] in (3, 4):
        pixels = image_of_python(value)
        return 1.0 - pixels[..., 3] if pixels.shape[-1] == 4 else pixels.mean(dim=-1)
    if found is None or found.dim() not in (2, 3):
        raise TypeError(f"found {in_words(value) if found is None else shape_of(found)}, expected {_MASK}")
    found = found.float() / 255 if str(found.dtype) == "torch.uint8" else found.float()
    return found[None] if found.dim() == 2 else found


def latent_of_python(value: Any) -> Any:
    """A LATENT of a dict with `samples`, or of the samples alone. Raises TypeError."""
    parts = dict(value) if isinstance(value, Mapping) else {"samples": value}
    found = {key: tensor if (tensor := _tensor(item)) is not None else item for key, item in parts.items()}
    misfit = latent(found)
    if misfit is not None:
        raise TypeError(f"found {misfit.found}, expected {misfit.expected}")
    return found


def frames_of(content: bytes) -> tuple[Any, Any]:
    """float32 [B,H,W,3] of the bytes of an image file, and how transparent it is, [B,H,W], or None."""
    import numpy as np
    import torch

    from .files.read_image import read_frames

    frames = read_frames(content, "the image")
    colours = torch.from_numpy(np.stack([frame.colours for frame in frames]))
    if all(frame.opacity is None for frame in frames):
        return colours, None
    opaque = np.ones(frames[0].colours.shape[:2], np.float32)
    clear = [1.0 - (opaque if frame.opacity is None else frame.opacity) for frame in frames]
    return colours, torch.from_numpy(np.stack(clear))


def _tensor(value: Any) -> Tensor | None:
    """A tensor of the CPU of an array or a tensor."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else None


def audio(value: Any) -> Misfit | None:
    """A mapping with `waveform` [B,C,T] and `sample_rate`; None of a video without sound."""
    if value is None:
        return None
    waveform = value.get("waveform") if isinstance(value, Mapping) else None
    if not (_is_tensor(waveform) and waveform.dim() == 3 and waveform.is_floating_point()):
        return Misfit(in_words(value), _AUDIO)
    rate = value.get("sample_rate")
    if not isinstance(rate, int) or rate < 1:
        return Misfit(f"a `sample_rate` of {rate!r}", _AUDIO)
    return _finite(waveform, _AUDIO)


def video(value: Any) -> Misfit | None:
    """A file, or a mapping with `images` and `fps`, and perhaps `audio`; videos of node packs are passed on."""
    if isinstance(value, Handle) or hasattr(value, "get_components"):
        return None
    if not isinstance(value, Mapping):
        return Misfit(in_words(value), _VIDEO, "images become a video with CreateVideo")
    fps = value.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < 1e6:
        return Misfit(f"`fps` of {fps!r}", _VIDEO)
    return image(value.get("images")) or audio(value.get("audio"))


CHECKS: Mapping[str, Check] = {
    "IMAGE": image,
    "MASK": mask,
    "LATENT": latent,
    "CONDITIONING": conditioning,
    "SIGMAS": sigmas,
    "AUDIO": audio,
    "VIDEO": video,
}


FROM_PYTHON: Mapping[str, Callable[[Any], Any]] = {
    "IMAGE": image_of_python,
    "MASK": mask_of_python,
    "LATENT": latent_of_python,
}
"""Values of a script as values of a wire."""


def shape_of(tensor: Tensor) -> str:
    """`a tensor [1, 16, 24, 2] of float32`."""
    return f"a tensor {list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _is_tensor(value: Any) -> TypeGuard[Tensor]:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def _finite(tensor: Tensor, expected: str) -> Misfit | None:
    """One sum over the numbers settles it: it is finite unless one of them is not, or they are huge."""
    import torch

    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        return None
    total = tensor.sum(dtype=torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else None)
    if torch.isfinite(total):
        return None
    nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    if not nan and not infinite:
        return None
    what = " and ".join([f"{nan} NaN"] * (nan > 0) + [f"{infinite} infinite"] * (infinite > 0))
    return Misfit(f"{shape_of(tensor)} with {what} of {tensor.numel()} numbers", f"{expected}, all finite", _FINITE)


def _image_advice(shape: tuple[int, ...]) -> str | None:
    if 0 in shape:
        return "it is empty: a batch has at least one image, and an image at least one pixel"
    if len(shape) == 3:
        is_one = shape[2] in (3, 4)
        return "image[None] makes a batch of one" if is_one else "a MASK becomes an IMAGE with MaskToImage"
    if len(shape) == 4 and shape[3] == 1:
        return "grey becomes three equal colours: image.repeat(1, 1, 1, 3)"
    if len(shape) == 4 and shape[1] in (3, 4):
        return "channels come last: image.movedim(1, -1)"
    return None
