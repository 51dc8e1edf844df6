"""HiDream: a prompt for each of its four text encoders."""

from typing import Annotated

from graphflow import Conditioning, Multiline, Settings, node

from ..devices.environment import numerics
from ..model.wires import ClipWire
from .conditioning import check_prompts, encode, prompts_outside

_Words = Annotated[str, Multiline(words=True)]


@node(
    "CLIPTextEncodeHiDream",
    category="advanced/conditioning",
    display_name="CLIPTextEncodeHiDream",
    version="1",
    lane="device",
    in_turns=True,
    environment=numerics,
    outside=prompts_outside,
    check=check_prompts,
)
def clip_text_encode_hidream(
    settings: Settings, clip: ClipWire, clip_l: _Words, clip_g: _Words, t5xxl: _Words, llama: _Words
) -> Conditioning:
    """Encode a prompt for CLIP-L, CLIP-G, T5 and Llama 3.1."""
    prompts = {"text.l": clip_l, "text.g": clip_g, "text.t5": t5xxl, "text.llama": llama}
    return encode(settings, clip, t5xxl, **prompts)
