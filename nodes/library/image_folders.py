"""All images of a folder as one batch."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Choice, GraphFlowError, Image, Problem, Settings, node

from ..devices.environment import numerics
from ..files.image_folders import broken_images, empty_folder, folder_names, images_in
from ..files.prefixes import inside
from ..files.read_image import read_frames
from ..limits import check_pixels
from ..resampling import resize

if TYPE_CHECKING:
    from torch import Tensor

_METHODS = ("None", "Stretch", "Crop", "Pad")


def _folder_digest(settings: Settings, folder: str, **_: Any) -> str:
    """The names and the contents of the images."""
    each = (f"{name}={settings.digests.of(settings.input_dir / name)}" for name in images_in(settings, folder))
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def _holds_images(
    settings: Settings, literals: Mapping[str, Any], linked: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    folder = literals.get("folder")
    if not isinstance(folder, str):
        return
    names = images_in(settings, folder)
    if not names:
        yield "folder", f"there are no images in the folder {folder!r} of the input folder"
    for problem in broken_images(settings, names):
        yield problem.input, problem.message


@node(
    "LoadImageSetFromFolderNode",
    category="loaders",
    display_name="Load Image Dataset from Folder",
    version="1",
    outside=_folder_digest,
    environment=numerics,
    check=_holds_images,
)
def load_image_set_from_folder(
    settings: Settings,
    folder: Annotated[str, Choice(folder_names, "input", empty_folder)],
    resize_method: Annotated[str, Choice(_METHODS)] = "None",
) -> Image:
    """Read all images of a folder below the input folder as one batch, in the order of their names.

    All get the size of the first: `Stretch` resamples them to it, `Crop` cuts them evenly to its proportions first,
    `Pad` puts them in the middle of black. `None` takes images of one size only. Of an animation, the first frame is
    taken.
    """
    import torch

    names = images_in(settings, folder)
    if not names:
        raise GraphFlowError([Problem("no_images", f"there are no images in {folder!r}", input="folder")])
    images: list[Tensor] = []
    for name in names:
        (frame,) = read_frames(inside(settings.input_dir, name), name, most=1)
        image = torch.from_numpy(frame.colours)[None].movedim(-1, 1)
        first = images[0] if images else image
        height, width = first.shape[-2:]
        check_pixels(width, height, len(names), input="folder")
        if image.shape != first.shape and resize_method == "None":
            raise GraphFlowError(
                [
                    Problem(
                        "sizes_differ",
                        f"{name} has {image.shape[-1]} x {image.shape[-2]} pixels, {names[0]} {width} x {height}",
                        input="resize_method",
                        hint="choose Stretch, Crop or Pad",
                    )
                ]
            )
        images.append(image if image.shape == first.shape else _fitted(image, width, height, resize_method))
    return torch.cat(images).movedim(1, -1).contiguous()


def _fitted(image: "Tensor", width: int, height: int, method: str) -> "Tensor":
    if method != "Pad":
        return resize(image, width, height, "lanczos", "center" if method == "Crop" else "disabled")
    factor = min(width / image.shape[-1], height / image.shape[-2])
    wide, high = max(1, int(image.shape[-1] * factor)), max(1, int(image.shape[-2] * factor))
    frame = image.new_zeros(1, 3, height, width)
    top, left = (height - high) // 2, (width - wide) // 2
    frame[..., top : top + high, left : left + wide] = resize(image, wide, high, "lanczos")
    return frame
