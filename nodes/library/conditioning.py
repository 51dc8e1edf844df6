"""Text to conditioning, and what can be done with it.

CONDITIONING is a list of (embedding float32 [B,T,D], options); `pooled_output` [B,D] is among the options.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

from graphflow import Conditioning, GraphFlowError, Image, Latent, Mask, Multiline, Problem, Range, Settings, node

from ..devices.environment import numerics
from ..files.embeddings import find_embedding
from ..limits import check_items
from ..model.wires import ClipWire, VaeWire
from .loaders import folders
from .widgets import MAX_SIDE

_Words = Annotated[str, Multiline(words=True)]
_Side = Annotated[int, Range(0, MAX_SIDE)]


class Sides(NamedTuple):
    positive: Conditioning
    negative: Conditioning
    latent: Latent


def _embeddings_in(settings: Settings, *prompts: str) -> str:
    """The digests of the embeddings that prompts name: another file under a name gives another result."""
    from ..families.kits.prompt import embedding_names

    found = []
    for prompt in prompts:
        try:
            names = embedding_names(prompt)
        except GraphFlowError:
            names = []  # the node states what is wrong
        for name in names:
            path = find_embedding(folders(settings), name) or find_embedding(folders(settings), name.rstrip(","))
            found.append(settings.digests.of(path) if path is not None else f"no {name}")
    return " ".join(found)


def text_outside(settings: Settings, text: str, **_: Any) -> str:
    return _embeddings_in(settings, text)


def _texts_outside(settings: Settings, text_g: str, text_l: str, **_: Any) -> str:
    return _embeddings_in(settings, text_g, text_l)


def prompts_outside(settings: Settings, clip_l: str, t5xxl: str, clip_g: str = "", **_: Any) -> str:
    return _embeddings_in(settings, clip_l, clip_g, t5xxl)


def check_prompts(
    settings: Settings, literals: Mapping[str, Any], _: Mapping[str, str]
) -> Iterator[tuple[str | None, str]]:
    """Prompts that cannot be read, and embeddings that are not there."""
    from ..families.kits.prompt import embedding_names

    for input in ("text", "text_g", "text_l", "clip_l", "clip_g", "t5xxl"):
        if not isinstance(literals.get(input), str):
            continue
        try:
            names = embedding_names(literals[input])
        except GraphFlowError as error:
            yield from ((input, problem.message) for problem in error.problems)
            continue
        for name in names:
            if not any(find_embedding(folders(settings), one) for one in (name, name.rstrip(","))):
                yield (
                    input,
                    f"there is no embedding {name.rstrip(',')!r} in models/embeddings: add its file, or take it out",
                )


def encode(settings: Settings, clip: Any, prompt: str, **options: Any) -> Conditioning:
    from ..devices.use import open_device
    from ..families.text import encode_prompt
    from ..model.conditioning import to_wire

    return to_wire(encode_prompt(open_device(settings), clip, prompt, {**embeddings_of(settings), **options}))


def embeddings_of(settings: Settings) -> dict[str, Any]:
    """The option of an encoder that finds the file of an embedding by its name."""
    return {"embeddings": partial(find_embedding, folders(settings))}


@node(
    "CLIPTextEncode",
    category="conditioning",
    display_name="CLIP Text Encode (Prompt)",
    version="2",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=text_outside,
    check=check_prompts,
)
def clip_text_encode(settings: Settings, text: _Words, clip: ClipWire) -> Conditioning:
    """Encode a prompt. `(word:1.2)` weighs a part of it, `(word)` is 1.1; `\\(` is a plain bracket.

    `embedding:name` stands for the vectors of a file in models/embeddings.
    """
    return encode(settings, clip, text)


@node(
    "CLIPTextEncodeSDXL",
    category="advanced/conditioning",
    display_name="CLIPTextEncodeSDXL",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=_texts_outside,
    check=check_prompts,
)
def clip_text_encode_sdxl(
    settings: Settings,
    clip: ClipWire,
    *,
    width: _Side = 1024,
    height: _Side = 1024,
    crop_w: _Side = 0,
    crop_h: _Side = 0,
    target_width: _Side = 1024,
    target_height: _Side = 1024,
    text_g: _Words,
    text_l: _Words,
) -> Conditioning:
    """Encode a prompt for each of SDXL's text encoders, and state sizes: of the image that it was trained on, in
    pixels, how much of it was cut away from the left and the top, and the size to aim at."""
    sizes = {
        "width": width,
        "height": height,
        "crop_w": crop_w,
        "crop_h": crop_h,
        "target_width": target_width,
        "target_height": target_height,
    }
    return encode(settings, clip, text_g, **{"text.g": text_g, "text.l": text_l}, **sizes)


@node(
    "CLIPTextEncodeSDXLRefiner",
    category="advanced/conditioning",
    display_name="CLIPTextEncodeSDXLRefiner",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=text_outside,
    check=check_prompts,
)
def clip_text_encode_sdxl_refiner(
    settings: Settings,
    *,
    ascore: Annotated[float, Range(0.0, 1000.0, 0.01)] = 6.0,
    width: _Side = 1024,
    height: _Side = 1024,
    text: _Words,
    clip: ClipWire,
) -> Conditioning:
    """Encode a prompt for SDXL's refiner, and state the aesthetic score and the size in pixels of the image to make."""
    return encode(settings, clip, text, aesthetic_score=ascore, width=width, height=height)


@node("CLIPSetLastLayer", category="conditioning", display_name="CLIP Set Last Layer", version="1")
def clip_set_last_layer(clip: ClipWire, stop_at_clip_layer: Annotated[int, Range(-24, -1, 1)] = -1) -> ClipWire:
    """Clip skip: take the text encoder's states from an earlier layer (-1 is the last)."""
    from dataclasses import replace

    return replace(clip, stop_at=stop_at_clip_layer)


@node(
    "InpaintModelConditioning",
    category="conditioning/inpaint",
    display_name="InpaintModelConditioning",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def inpaint_model_conditioning(
    settings: Settings,
    positive: Conditioning,
    negative: Conditioning,
    vae: VaeWire,
    pixels: Image,
    mask: Mask,
    noise_mask: bool = True,
) -> Sides:
    """For models that were trained to inpaint: they see the mask, and the image with what is to be made anew greyed
    out.

    The latent is that of the whole image; with `noise_mask` the sampler keeps what the mask does not cover.
    """
    from ..devices.use import open_device
    from ..devices.vae import encode, whole_cells
    from ..resampling import resize
    from .batch import repeat_to
    from .masks import batch_of

    device = open_device(settings)
    rows, columns = whole_cells(pixels, vae.latent.factor)
    cover = resize(batch_of(mask)[:, None].float(), pixels.shape[2], pixels.shape[1], "bilinear")
    cover, image = cover[..., rows, columns], pixels[:, rows, columns, :3]
    greyed = (image - 0.5) * (1.0 - repeat_to(cover, len(image)).round().movedim(1, -1)) + 0.5
    added = {"concat_latent_image": encode(device, vae, greyed), "concat_mask": cover}
    latent = {"samples": encode(device, vae, image), **({"noise_mask": cover} if noise_mask else {})}
    return Sides(with_options(positive, **added), with_options(negative, **added), latent)


@node(
    "InstructPixToPixConditioning",
    category="conditioning/instructpix2pix",
    display_name="InstructPixToPixConditioning",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def instruct_pix_to_pix_conditioning(
    settings: Settings, positive: Conditioning, negative: Conditioning, vae: VaeWire, pixels: Image
) -> Sides:
    """For models that edit an image as a prompt states: they see its latent beside the one that they make."""
    import torch

    from ..devices.use import open_device
    from ..devices.vae import encode_cut

    seen = encode_cut(open_device(settings), vae, pixels)
    added = {"concat_latent_image": seen}
    return Sides(with_options(positive, **added), with_options(negative, **added), {"samples": torch.zeros_like(seen)})


@node(
    "CLIPTextEncodeControlnet",
    category="conditioning",
    display_name="CLIP Text Encode (Controlnet)",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=text_outside,
    check=check_prompts,
)
def clip_text_encode_controlnet(
    settings: Settings, clip: ClipWire, conditioning: Conditioning, text: _Words
) -> Conditioning:
    """A prompt of its own for the ControlNets of a conditioning: they are asked with it, and the model with what the
    conditioning has. Without a ControlNet it does nothing."""
    encoded = encode(settings, clip, text)
    if len(encoded) != 1:
        message = f"the hooks on this CLIP make {len(encoded)} texts for parts of the sampling, ControlNets take one"
        raise GraphFlowError(
            [Problem("several_texts", message, input="clip", hint="link the CLIP before SetClipHooks")]
        )
    ((own, options),) = encoded
    return with_options(conditioning, cross_attn_controlnet=own, pooled_output_controlnet=options.get("pooled_output"))


def with_options(conditioning: Conditioning, **options: Any) -> Conditioning:
    """The same texts, with these options beside or in place of their own."""
    return [(embedding, {**before, **options}) for embedding, before in conditioning]


@node("ConditioningCombine", category="conditioning", display_name="Conditioning (Combine)", version="1")
def conditioning_combine(conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Both conditionings at once: the model's answers to them are averaged."""
    check_items(len(conditioning_1) + len(conditioning_2), "conditionings")
    return [*conditioning_1, *conditioning_2]


@node("ConditioningZeroOut", category="advanced/conditioning", display_name="Conditioning Zero Out", version="1")
def conditioning_zero_out(conditioning: Conditioning) -> Conditioning:
    """The same shapes with nothing but zeros in them."""
    return [
        (
            embedding.new_zeros(embedding.shape),
            {
                key: value.new_zeros(value.shape) if key in ("pooled_output", "llama") and value is not None else value
                for key, value in options.items()
            },
        )
        for embedding, options in conditioning
    ]
