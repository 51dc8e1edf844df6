"""Images as prompts: image encoders, and what they give put on a conditioning."""

from collections.abc import Mapping
from math import inf, log
from typing import Annotated, Any

from graphflow import Choice, Conditioning, GraphFlowError, Help, Image, Problem, Range, Settings, Wire, node

from ..devices.environment import numerics
from ..families.check_files import file_check
from .loaders import ClipVisionHandle, folders

VisionOutput = Annotated[Any, Wire("CLIP_VISION_OUTPUT")]
"""A dict with `last_hidden_state` and `penultimate_hidden_states` [B, tokens, D], and `image_embeds` [B, P]."""
StyleModelHandle = Annotated[Any, Wire("STYLE_MODEL")]


def _encoders(settings: Settings) -> list[str]:
    return folders(settings).list("clip_vision")


def _styles(settings: Settings) -> list[str]:
    return folders(settings).list("style_models")


def _encoder_digest(settings: Settings, clip_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find("clip_vision", clip_name))


def _style_digest(settings: Settings, style_model_name: str, **_: Any) -> str:
    return settings.digests.of(folders(settings).find("style_models", style_model_name))


@node(
    "CLIPVisionLoader",
    category="loaders",
    display_name="Load CLIP Vision",
    version="1",
    outside=_encoder_digest,
    check=file_check("clip_vision", "image encoder", "clip_name"),
)
def clip_vision_loader(
    settings: Settings, clip_name: Annotated[str, Choice(_encoders, "models/clip_vision")]
) -> ClipVisionHandle:
    """Take an image encoder out of a file: CLIP's ViT-L, H and bigG, or SigLIP."""
    from ..families.vision import open_vision

    return open_vision(folders(settings).find("clip_vision", clip_name), settings)


@node(
    "CLIPVisionEncode",
    category="conditioning",
    display_name="CLIP Vision Encode",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def clip_vision_encode(
    settings: Settings,
    clip_vision: ClipVisionHandle,
    image: Image,
    crop: Annotated[str, Choice(("center", "none")), Help("`none` squeezes the image into a square")] = "center",
) -> VisionOutput:
    """The answer of an image encoder to an image: for style models, unCLIP and IP-Adapters."""
    return encode_images(settings, clip_vision, image, crop == "center")


def encode_images(settings: Settings, clip_vision: Any, images: Any, crop: bool) -> dict[str, Any]:
    """The VisionOutput of images, on the device of a run."""
    from ..devices.use import open_device
    from ..families.clip_vision.network import encode

    device = open_device(settings)
    with device.use(clip_vision, "vision") as part:
        return device.run(encode, part.module, images, clip_vision.config, crop)


@node(
    "StyleModelLoader",
    category="loaders",
    display_name="Load Style Model",
    version="1",
    outside=_style_digest,
    check=file_check("style_models", "style model", "style_model_name"),
)
def style_model_loader(
    settings: Settings, style_model_name: Annotated[str, Choice(_styles, "models/style_models")]
) -> StyleModelHandle:
    """Take FLUX.1 Redux out of a file."""
    from ..families.vision import open_style

    return open_style(folders(settings).find("style_models", style_model_name), settings)


@node(
    "StyleModelApply",
    category="conditioning/style_model",
    display_name="Apply Style Model",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
)
def style_model_apply(
    settings: Settings,
    conditioning: Conditioning,
    style_model: StyleModelHandle,
    clip_vision_output: VisionOutput,
    strength: Annotated[float, Range(0.0, 10.0, 0.001)] = 1.0,
    strength_type: Annotated[
        str, Choice(("multiply", "attn_bias")), Help("the tokens times the strength, or how much they are looked at")
    ] = "multiply",
) -> Conditioning:
    """Put an image behind a prompt, as tokens of a text: FLUX.1 then makes it anew.

    With `attn_bias` the tokens stay as they are, and log(strength) is added to what text and image look at them with.
    """
    import torch

    from ..devices.use import open_device
    from ..families.redux.network import tokens

    states = _states(clip_vision_output, "last_hidden_state")
    wanted = style_model.config.redux_dim
    if states.shape[-1] != wanted:
        raise GraphFlowError(
            [
                Problem(
                    "wrong_encoder",
                    f"the image encoder gives vectors of {states.shape[-1]} numbers, the style model takes {wanted}",
                    input="clip_vision_output",
                    hint="FLUX.1 Redux was made for SigLIP (sigclip_vision_patch14_384)",
                )
            ]
        )
    device = open_device(settings)
    with device.use(style_model, "style") as part:
        added = device.run(tokens, part.module, states).flatten(0, 1)[None]
    found = []
    for text, options in conditioning:
        if text.shape[-1] != added.shape[-1]:
            raise GraphFlowError(
                [
                    Problem(
                        "wrong_width",
                        f"the style model makes tokens {added.shape[-1]} wide, the text is {text.shape[-1]} wide",
                        input="conditioning",
                        hint="FLUX.1 Redux acts on prompts of T5 for FLUX.1",
                    )
                ]
            )
        is_bias = strength_type == "attn_bias" and strength != 1.0
        new = added if strength_type == "attn_bias" else added * strength
        stated = dict(options)
        bias = options.get("token_bias")
        if is_bias or bias is not None:
            bias = torch.zeros(text.shape[1]) if bias is None else bias
            level = (log(strength) if strength > 0.0 else -inf) if is_bias else 0.0
            stated["token_bias"] = torch.cat([bias, torch.full((new.shape[1],), level)])
        found.append((torch.cat([text, new.expand(len(text), -1, -1)], dim=1), stated))
    return found


@node("unCLIPConditioning", category="conditioning", display_name="unCLIPConditioning", version="1")
def unclip_conditioning(
    conditioning: Conditioning,
    clip_vision_output: VisionOutput,
    strength: Annotated[float, Range(-10.0, 10.0, 0.01)] = 1.0,
    noise_augmentation: Annotated[
        float, Range(0.0, 1.0, 0.01), Help("how much noise hides the image: 0 is close to it, 1 leaves its idea")
    ] = 0.0,
) -> Conditioning:
    """Let SDXL see an image in place of the pooled text. Several images are added, each by its strength."""
    if strength == 0.0:
        return conditioning
    image = {
        "embeds": _states(clip_vision_output, "image_embeds"),
        "strength": strength,
        "noise_augmentation": noise_augmentation,
    }
    return [
        (text, {**options, "unclip_conditioning": [*options.get("unclip_conditioning", ()), image]})
        for text, options in conditioning
    ]


def hidden_states(output: Any) -> Any:
    """The states before the last layer of an image encoder, [B, tokens, D]. Raises a Problem."""
    return _states(output, "penultimate_hidden_states")


def _states(output: Any, name: str) -> Any:
    if not isinstance(output, Mapping) or name not in output:
        raise GraphFlowError(
            [
                Problem(
                    "not_vision_output",
                    f"this holds no {name!r} of an image encoder",
                    input="clip_vision_output",
                    hint="link CLIPVisionEncode",
                )
            ]
        )
    return output[name]
