"""Stable Diffusion 3: a prompt for each of its three text encoders."""

from typing import Annotated

from graphflow import Choice, Conditioning, Multiline, Settings, node

from ..devices.environment import numerics
from ..model.wires import ClipWire
from .conditioning import check_prompts, encode, prompts_outside

_Words = Annotated[str, Multiline(words=True)]


@node(
    "CLIPTextEncodeSD3",
    category="advanced/conditioning",
    display_name="CLIPTextEncodeSD3",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=prompts_outside,
    check=check_prompts,
)
def clip_text_encode_sd3(
    settings: Settings,
    clip: ClipWire,
    clip_l: _Words,
    clip_g: _Words,
    t5xxl: _Words,
    empty_padding: Annotated[str, Choice(("none", "empty_prompt"))] = "none",
) -> Conditioning:
    """Encode a prompt for CLIP-L, CLIP-G and T5.

    With `none`, CLIP-L and CLIP-G are left out if both prompts are empty, and T5 gives one vector, of the end, for an
    empty prompt; with `empty_prompt` each encodes the empty text.
    """
    prompts = {"text.l": clip_l, "text.g": clip_g, "text.t5": t5xxl}
    if empty_padding == "none":
        return encode(settings, clip, t5xxl, **{part: text or None for part, text in prompts.items()})
    return encode(settings, clip, t5xxl, **prompts)
