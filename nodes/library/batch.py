"""Batches: images and latents put together, taken apart, repeated."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from graphflow import Each, Every, GraphFlowError, Grow, Image, Latent, Problem, Range, node

from ..devices.environment import numerics
from ..limits import check_latent, check_pixels, check_repeated
from ..resampling import resize

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
_Amount = Annotated[int, Range(1, 64)]


def repeat_to(x: "Tensor", count: int) -> "Tensor":
    """`count` items of a batch: the first ones, or all of them over and over from the start."""
    import torch

    if len(x) == count:
        return x
    check_repeated(x.shape, count)
    return torch.cat([x] * -(-count // len(x)))[:count]


def with_channels(image: "Tensor", channels: int) -> "Tensor":
    """[B,H,W,C] with fewer channels, or with more, which are 1 (an opaque alpha); grey becomes three equal colours
    first."""
    import torch

    if image.shape[-1] == 1 and channels > 2:
        image = image.repeat(1, 1, 1, 3)
    missing = channels - image.shape[-1]
    return torch.cat([image, image.new_ones(*image.shape[:-1], missing)], -1) if missing > 0 else image[..., :channels]


def one_batch(images: Sequence[Any]) -> Image:
    """Images [B,H,W,C] of any sizes in one batch of the first one's size (cut evenly to its proportions).

    If one of them has an alpha channel, those without get an opaque one.
    """
    import torch

    height, width = images[0].shape[1:3]
    channels = max(image.shape[-1] for image in images)
    check_pixels(width, height, sum(map(len, images)), channels)
    fitting = []
    for image in images:
        image = with_channels(image, channels)
        if image.shape[1:3] != (height, width):
            image = resize(image.movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
        fitting.append(image)
    return torch.cat(fitting)


@node("ImageBatch", category="image", display_name="Batch Images", version="2", environment=numerics)
def image_batch(image1: Image, image2: Image) -> Image:
    """Two batches of images as one; the second gets the size of the first, cut evenly to its proportions."""
    return one_batch([image1, image2])


@node("ImageFromBatch", category="image/batch", version="1")
def image_from_batch(
    image: Image,
    batch_index: Annotated[int, Range(0, 4095)] = 0,
    length: Annotated[int, Range(1, 4096)] = 1,
) -> Image:
    """Some images of a batch, from `batch_index` on; what lies beyond the last is left out, but never all."""
    start = min(batch_index, len(image) - 1)
    return image[start : start + length].clone()


@node("RepeatImageBatch", category="image/batch", version="1")
def repeat_image_batch(image: Image, amount: Annotated[int, Range(1, 4096)] = 1) -> Image:
    """A batch of images over and over, `amount` times in all."""
    check_pixels(image.shape[2], image.shape[1], len(image) * amount, image.shape[3], "amount")
    return image.repeat(amount, 1, 1, 1)


@node("LatentFromBatch", category="latent/batch", display_name="Latent From Batch", version="1")
def latent_from_batch(samples: Latent, batch_index: Annotated[int, Range(0, 63)] = 0, length: _Amount = 1) -> Latent:
    """Some latents of a batch, from `batch_index` on. They remember their place, so that each starts from the noise
    that it would have had in the whole batch. With a sampler that draws noise in each step (ancestral, SDE, LCM ...)
    the image differs all the same: these draws are made for the batch at hand, as in ComfyUI."""
    x = samples["samples"]
    start = min(batch_index, len(x) - 1)
    part = slice(start, start + length)
    found = {**samples, "samples": x[part].clone()}
    if "noise_mask" in samples and len(samples["noise_mask"]) > 1:
        found["noise_mask"] = repeat_to(samples["noise_mask"], len(x))[part].clone()
    found["batch_index"] = _places(samples)[part]
    return found


@node("RepeatLatentBatch", category="latent/batch", display_name="Repeat Latent Batch", version="1")
def repeat_latent_batch(samples: Latent, amount: _Amount = 1) -> Latent:
    """A batch of latents over and over, `amount` times in all, each with noise of its own."""
    x = samples["samples"]
    check_latent((len(x) * amount, *x.shape[1:]), "amount")
    found = {**samples, "samples": x.repeat(amount, *[1] * (x.ndim - 1))}
    if "noise_mask" in samples and len(samples["noise_mask"]) > 1:
        mask = repeat_to(samples["noise_mask"], len(x))
        found["noise_mask"] = mask.repeat(amount, *[1] * (mask.ndim - 1))
    if "batch_index" in samples:
        places = _places(samples)
        step = max(places) - min(places) + 1
        found["batch_index"] = [place + step * turn for turn in range(amount) for place in places]
    return found


@node("LatentBatch", category="latent/batch", version="2", environment=numerics)
def latent_batch(samples1: Latent, samples2: Latent) -> Latent:
    """Two batches of latents as one; the second gets the size of the first."""
    import torch

    a, b = samples1["samples"], samples2["samples"]
    if a.shape[1:] != b.shape[1:]:
        b = resize(b, a.shape[-1], a.shape[-2], "bilinear", "center")
    check_latent((len(a) + len(b), *a.shape[1:]))
    return {**samples1, "samples": torch.cat([a, b]), "batch_index": _places(samples1) + _places(samples2)}


def _places(latent: Any) -> list[int]:
    """The place of each latent in the batch that its noise is drawn for."""
    return list(latent.get("batch_index", range(len(latent["samples"]))))


@node(
    "BatchImagesNode",
    category="image/batch",
    display_name="Batch Images (Any Number)",
    version="2",
    environment=numerics,
)
def batch_images(
    images: Annotated[dict[str, Any], Grow(Image, prefix="image", min=2, max=50, optional=True)],
) -> Image:
    """Any number of images as one batch, in the size of the first one, each cut evenly to its proportions."""
    if not images:
        raise GraphFlowError([Problem("missing_input", "no image is linked", input="images.image0")])
    return one_batch(list(images.values()))


@node("RebatchImages", category="image/batch", display_name="Rebatch Images", version="1")
def rebatch_images(
    images: Every[Image],
    batch_size: Every[Annotated[int, Range(1, 4096)]] = 1,  # type: ignore[assignment]
) -> Each[Image]:
    """All images that arrive, in batches of another size; what follows runs once for each. Sizes stay as they are:
    a batch ends where the size changes."""
    singles = [image[None] for batch in images for image in batch]
    return [_joined(group) for group in _runs(singles, lambda item: item.shape, batch_size[0])]


@node("RebatchLatents", category="latent/batch", display_name="Rebatch Latents", version="1")
def rebatch_latents(
    latents: Every[Latent],
    batch_size: Every[Annotated[int, Range(1, 4096)]] = 1,  # type: ignore[assignment]
) -> Each[Latent]:
    """All latents that arrive, in batches of another size; what follows runs once for each. Each keeps its noise and
    its mask; a batch ends where the size changes."""
    singles = [single for latent in latents for single in _singles(latent)]

    def kind(single: Any) -> Any:
        return single["samples"].shape, single["noise_mask"].shape if "noise_mask" in single else None

    groups = _runs(singles, kind, batch_size[0])
    return [
        {key: _joined([single[key] for single in group]) for key in group[0] if key != "batch_index"}
        | {"batch_index": [place for single in group for place in single["batch_index"]]}
        for group in groups
    ]


def _singles(latent: Any) -> Iterator[dict[str, Any]]:
    """A batch of latents one by one, each with its place and its mask."""
    count = len(latent["samples"])
    masks = repeat_to(latent["noise_mask"], count) if "noise_mask" in latent else None
    for index, place in enumerate(_places(latent)):
        single = {"samples": latent["samples"][index : index + 1], "batch_index": [place]}
        yield single if masks is None else {**single, "noise_mask": masks[index : index + 1]}


def _runs(items: Iterable[T], key: Callable[[T], Any], most: int) -> Iterator[list[T]]:
    """Neighbours with one key in groups of at most so many."""
    for _, same in groupby(items, key):
        rest = list(same)
        while rest:
            yield rest[:most]
            rest = rest[most:]


def _joined(parts: Sequence["Tensor"]) -> "Tensor":
    import torch

    return torch.cat(list(parts))
