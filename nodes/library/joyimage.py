"""JoyImage Edit: a prompt with the images that it is about."""

from typing import TYPE_CHECKING, Annotated, Any

from graphflow import Conditioning, Grow, Image, Multiline, Settings, node

from ..devices.environment import numerics
from ..model.wires import ClipWire, VaeWire
from ..resampling import resize
from .editing import encoded, latent_of, vision_mark, with_references

if TYPE_CHECKING:
    from torch import Tensor

_Words = Annotated[str, Multiline(words=True)]
_Images = Annotated[dict[str, Any], Grow(Image, prefix="image", min=1, max=6, optional=True)]
_SIDES = {
    512: (1792, 2048),
    576: (1600, 1792),
    640: (1472, 1600),
    704: (1344, 1472),
    768: (1216, 1344),
    832: (1152, 1216),
    896: (1088, 1152),
    960: (1024, 1088),
    1024: (960, 1024),
    1088: (896, 960),
    1152: (832, 896),
    1216: (768, 832),
    1280: (768, 768),
    1344: (704, 768),
    1408: (704, 704),
    1472: (640, 704),
    1536: (640, 640),
    1600: (576, 640),
    1664: (576, 576),
    1728: (576, 576),
    1792: (512, 576),
    1856: (512, 512),
    1920: (512, 512),
    1984: (512, 512),
    2048: (512, 512),
}
"""Heights that the model was trained on -> the least and the largest width, in steps of 64."""
MULTIPLE, MILLION = 16, 1024 * 1024
SIZES = [(height, width) for height, (least, most) in _SIDES.items() for width in range(least, most + 1, 64)]


@node(
    "TextEncodeJoyImageEdit",
    category="advanced/conditioning",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def text_encode_joyimage_edit(
    settings: Settings, clip: ClipWire, prompt: _Words, vae: VaeWire | None = None, images: _Images | None = None
) -> Conditioning:
    """Encode what is to become of up to six images, which the text encoder sees; with a VAE they are reference latents
    as well.

    All images of this model have one size: that of the first one where it has about a million pixels and sides that are
    multiples of 16, else the size of the model's training that is nearest to its proportions. Give the sampler a latent
    of the same size. Without images this is CLIPTextEncode.
    """
    given = [image for image in (images or {}).values() if image is not None]
    seen: list[Tensor] = []
    references: list[Tensor] = []
    size = _size(given[0]) if given else (0, 0)
    for image in given:
        sized = resize(image[:1, ..., :3].movedim(-1, 1), size[1], size[0], "bilinear", "center").movedim(1, -1)
        seen.append(sized[0])
        if vae is not None:
            references.append(latent_of(settings, vae, sized))
    text = vision_mark(clip) * len(given) + prompt if given else prompt
    return with_references(encoded(settings, clip, text, {"images": seen} if seen else {}), references)


def _size(image: "Tensor") -> tuple[int, int]:
    """The height and width in which the model sees images, from the first one, [B, H, W, C]."""
    height, width = image.shape[1:3]
    if height % MULTIPLE == width % MULTIPLE == 0 and 0.9 * MILLION <= height * width <= 1.1 * MILLION:
        return height, width
    return min(SIZES, key=lambda size: abs(size[0] / size[1] - height / width))
