"""Images enlarged by a network."""

from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any

from graphflow import Choice, Context, Image, Settings, Wire, node

from ..devices.environment import upscaling
from .loaders import folders

UpscaleModelHandle = Annotated[Any, Wire("UPSCALE_MODEL")]
KIND = "upscale_models"


def _names(settings: Settings) -> list[str]:
    return folders(settings).list(KIND)


def _digest(settings: Settings, model_name: str) -> str:
    return settings.digests.of(folders(settings).find(KIND, model_name))


def _can_be_read(
    _: Settings, literals: Mapping[str, Any], linked: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    for name in ("spandrel", "torchvision"):
        if find_spec(name) is None:
            yield (
                None,
                f"upscale models need the package {name}, which is not installed: pip install "
                "'graphflow-engine[upscale]'",
            )
            return


@node(
    "UpscaleModelLoader",
    category="loaders",
    display_name="Load Upscale Model",
    version="1",
    outside=_digest,
    check=_can_be_read,
)
def upscale_model_loader(
    settings: Settings, model_name: Annotated[str, Choice(_names, "models/upscale_models")]
) -> UpscaleModelHandle:
    """Name a network that enlarges images: ESRGAN, SwinIR, DAT, HAT, SPAN and their kin (needs the package
    spandrel)."""
    from ..model.handles import UpscaleModel, WeightsSource

    path = folders(settings).find(KIND, model_name)
    digest_now = partial(settings.digests.of, path)
    return UpscaleModel(WeightsSource(str(path), digest_now(), "spandrel", digest_now=digest_now))


@node(
    "ImageUpscaleWithModel",
    category="image/upscaling",
    display_name="Upscale Image (using Model)",
    version="1",
    lane="device",
    in_turns=True,
    environment=upscaling,
)
def image_upscale_with_model(context: Context, upscale_model: UpscaleModelHandle, image: Image) -> Image:
    """Enlarge images by a network, by its own factor, in tiles of 512 pixels that are blended where they overlap.

    An alpha channel is left out.
    """
    from ..devices.upscale import enlarge
    from ..devices.use import open_device
    from .batch import with_channels

    return enlarge(open_device(context.settings), upscale_model, with_channels(image, 3), context.progress)
