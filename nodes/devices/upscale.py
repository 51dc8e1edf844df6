"""Networks that enlarge images: read by spandrel, which knows some forty architectures by their weights.

spandrel is an optional package: it needs torchvision, which has to be of torch's own release.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graphflow import GraphFlowError, Problem

from ..files.header import read_header
from ..files.tensors import TensorReader
from ..limits import check_pixels
from ..tiles import in_tiles, tile_count

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.handles import UpscaleModel
    from .use import Device

__all__ = ["ask_network", "enlarge", "missing_package", "open_network"]

TILE, SMALLEST, OVERLAP = 512, 128, 32
"""Pixels: of a tile, of one where memory is short, and that two tiles share."""
PACKAGES = ("spandrel", "torchvision")


def missing_package() -> str | None:
    """The package that has to be installed first."""
    return next((name for name in PACKAGES if find_spec(name) is None), None)


def open_network(device: Device, upscaler: UpscaleModel) -> tuple[Any, int]:
    """The network on the device, and its factor. Raises a Problem where the file is not such a network."""
    network, scale = _load(upscaler)
    return device.run(_placed, network, device.device), scale


def enlarge(device: Device, upscaler: UpscaleModel, images: Tensor, on_tile: Callable[[int, int], None]) -> Tensor:
    """float32 [B,H,W,C] in 0..1 -> [B,sH,sW,3], s being the network's factor; tile by tile, blended.

    `on_tile(done, of all)` may raise to stop. Where the memory of the device is too small for a tile, tiles are halved.
    Raises a Problem where the file is not such a network.
    """
    network, scale = open_network(device, upscaler)
    count, height, width = images.shape[:3]
    check_pixels(width * scale, height * scale, count)
    tile = TILE
    while True:
        try:
            return _enlarged(device, network, scale, images, tile, on_tile)
        except torch.OutOfMemoryError:
            if tile <= SMALLEST:
                raise
            tile //= 2
            if device.device.type == "cuda":
                torch.cuda.empty_cache()


def _enlarged(
    device: Device, network: Any, scale: int, images: Tensor, tile: int, on_tile: Callable[[int, int], None]
) -> Tensor:
    size = (tile, tile)
    total = len(images) * tile_count(images.shape[1], images.shape[2], size, OVERLAP)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        on_tile(done, total)

    def call(part: Tensor) -> Tensor:
        return device.run(ask_network, network, part)

    planes = images[..., :3].movedim(-1, 1)
    found = [in_tiles(call, image, size, OVERLAP, Fraction(scale), count) for image in planes]
    return torch.stack(found).clamp(0.0, 1.0).movedim(1, -1).contiguous()


@torch.inference_mode()
def ask_network(network: Any, part: Tensor) -> Tensor:
    """[3,h,w] in 0..1 -> float32 [3,sh,sw] on the CPU; by the thread of the device."""
    answer: Tensor = network(part[None].to(network.device))
    return answer[0].float().cpu()


def _placed(network: Any, device: torch.device) -> Any:
    return network.to(device).eval()


def _load(upscaler: UpscaleModel) -> tuple[Any, int]:
    """(the network, its factor)"""
    missing = missing_package()
    if missing is not None:
        raise GraphFlowError(
            [
                Problem(
                    "missing_package",
                    f"upscale models need the package {missing}, which is not installed",
                    hint="pip install 'graphflow-engine[upscale]'",
                )
            ]
        )
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    path = Path(upscaler.source.path)
    header = read_header(path)
    with TensorReader(header) as reader:
        weights = {name.removeprefix("module."): reader.get(name).clone() for name in header.tensors}
    if upscaler.source.has_changed():
        raise GraphFlowError(
            [Problem("file_changed", f"{path.name} changed while the run went on", hint="run the workflow again")]
        )
    try:
        network = ModelLoader().load_from_state_dict(weights)
    except UnsupportedModelError:
        raise _not_one(path, "its weights are of no network that spandrel knows") from None
    except Exception as error:  # spandrel has forty readers, each with errors of its own
        raise _not_one(path, f"its weights do not fit together ({type(error).__name__})") from error
    if not isinstance(network, ImageModelDescriptor):
        raise _not_one(path, "its network takes more than one image")
    if (network.input_channels, network.output_channels) != (3, 3):
        raise _not_one(path, f"its network takes {network.input_channels} channels, images have 3 colours")
    return network, int(network.scale)


def _not_one(path: Path, why: str) -> GraphFlowError:
    return GraphFlowError(
        [
            Problem(
                "not_an_upscaler",
                f"{path.name} cannot enlarge images: {why}",
                input="model_name",
                hint="upscale models are ESRGAN, SwinIR, DAT, HAT, SPAN and their kin",
            )
        ]
    )
